"""What always holds of batches: whom they were for, what was counted, what was compared."""

from typing import Final

from tasker_zmq.store.reads.invariant import Invariant

_SESSIONS: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'it was sent to session ' || b.session_id || ', and its registration ' || b.registration_id
        || ' is of ' || coalesce('session ' || r.session_id, 'nobody') AS detail
FROM tasker_step_execution_batches b
LEFT JOIN tasker_worker_registrations r USING (registration_id)
WHERE b.registration_id IS NOT NULL AND r.session_id IS DISTINCT FROM b.session_id"""

# What a session took over from an earlier one was sent on the credit of that one.
# A completion that overtakes its partial results gives the credit back before they come.
_CREDIT: Final = """
SELECT 'session ' || r.session_id AS subject,
    'it holds ' || count(*) || ' steps that were sent to it; its credit is ' || r.credit
        || ', and as many as ' || w.burst || ' if they end at once' AS detail
FROM tasker_workflow_steps s
JOIN tasker_step_execution_batches b ON b.batch_id = s.current_batch_id
JOIN tasker_worker_registrations r USING (registration_id)
JOIN (
    SELECT worker_id, coalesce(CAST(metadata ->> 'max_burst_steps' AS integer), 0) AS burst
    FROM tasker_workers
) w USING (worker_id)
WHERE s.state = 'in_progress' AND b.created_at >= r.registered_at
    AND NOT b.final_completion_received
GROUP BY r.session_id, r.credit, w.burst HAVING count(*) > greatest(r.credit, w.burst)"""

_APPEND_ONLY: Final = """
SELECT 'the ledger' AS subject,
    'no trigger refuses changes of ' || c.relname || '; downgrade and upgrade the schema' AS detail
FROM pg_class c
WHERE c.oid = CAST('tasker_step_execution_batch_received_results' AS regclass) AND NOT EXISTS (
    SELECT 1 FROM pg_trigger t
    WHERE t.tgrelid = c.oid AND t.tgname = 'tasker_append_only' AND t.tgenabled <> 'D')"""

# The older one-shot messages speak of many steps in one row: their partial results are left out.
_COUNTERS: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'stored are ' || b.partial_results_received || ' partial results and completion '
        || b.final_completion_received || ', with ' || b.completed_steps || ' completed and '
        || b.failed_steps || ' failed of ' || b.batch_size || '; the ledger has '
        || coalesce(r.partials, 0) || ' partial results and completion '
        || coalesce(r.completion, false) AS detail
FROM tasker_step_execution_batches b
LEFT JOIN (
    SELECT batch_id,
        count(DISTINCT batch_step_id) FILTER (WHERE message_type = 'partial_result'
            AND verdict = 'applied' AND status IS DISTINCT FROM 'in_progress') AS partials,
        count(DISTINCT batch_step_id) FILTER (WHERE message_type = 'partial_result'
            AND verdict = 'applied' AND status NOT IN ('failed', 'error', 'in_progress'))
            AS successes,
        bool_or(message_type <> 'partial_result' AND verdict = 'applied'
            OR message_type IN ('results', 'batch_error')
                AND verdict NOT IN ('rejected', 'unknown_batch')) AS completion,
        bool_or(message_type IN ('results', 'batch_error')) AS one_shot
    FROM tasker_step_execution_batch_received_results
    WHERE batch_id IS NOT NULL GROUP BY batch_id
) r USING (batch_id)
WHERE (b.partial_results_received <> coalesce(r.partials, 0)
        AND NOT coalesce(r.one_shot, false))
    OR b.final_completion_received <> coalesce(r.completion, false)
    OR b.completed_steps < coalesce(r.successes, 0) OR b.failed_steps < 0
    OR b.completed_steps + b.failed_steps
        NOT BETWEEN b.partial_results_received AND b.batch_size"""

_SIZE: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'its size is ' || b.batch_size || ', and it carried ' || coalesce(s.carried, 0) AS detail
FROM tasker_step_execution_batches b
LEFT JOIN (
    SELECT batch_id, count(*) AS carried FROM tasker_step_execution_batch_steps GROUP BY batch_id
) s USING (batch_id)
WHERE b.batch_size <> coalesce(s.carried, 0)"""

_STATE: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'it is ' || b.state || ' with ' || b.completed_steps || ' completed and ' || b.failed_steps
        || ' failed of ' || b.batch_size || ' steps' AS detail
FROM tasker_step_execution_batches b
WHERE CASE b.state
    WHEN 'completed' THEN b.completed_steps <> b.batch_size
    WHEN 'failed' THEN b.failed_steps <> b.batch_size
    WHEN 'partially_failed' THEN b.completed_steps = 0 OR b.failed_steps = 0
        OR b.completed_steps + b.failed_steps <> b.batch_size
    WHEN 'created' THEN b.completed_steps + b.failed_steps > 0
    WHEN 'published' THEN b.completed_steps + b.failed_steps > 0
    WHEN 'in_progress' THEN b.completed_steps + b.failed_steps >= b.batch_size
    ELSE false END"""

_DIFFERENCES: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'its accounts are ' || b.reconciliation_status || ', and '
        || coalesce(d.differences, 0) || ' differences are stored' AS detail
FROM tasker_step_execution_batches b
LEFT JOIN (
    SELECT batch_id, count(*) AS differences
    FROM tasker_step_execution_batch_discrepancies GROUP BY batch_id
) d USING (batch_id)
WHERE (b.reconciliation_status = 'discrepancy') <> (d.differences IS NOT NULL)"""

BATCH_INVARIANTS: Final = (
    Invariant("I8 chosen session", "A batch's session is its registration's.", _SESSIONS),
    Invariant(
        "I9 credit",
        "A session was sent no more steps than its credit, or than a burst that it takes.",
        _CREDIT,
    ),
    Invariant("I10 append-only", "The ledger refuses UPDATE and DELETE.", _APPEND_ONLY),
    Invariant("I10 counters", "A batch's counters are what the ledger adds up to.", _COUNTERS),
    Invariant("I10 batch size", "A batch carried as many steps as it says.", _SIZE),
    Invariant("I10 batch state", "A batch ended as its steps did.", _STATE),
    Invariant(
        "I11 differences",
        "Differences are stored of exactly those batches whose accounts differ.",
        _DIFFERENCES,
    ),
)
