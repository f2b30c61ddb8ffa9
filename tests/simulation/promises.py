"""What holds, beside the published invariants, once all work has come to its end."""

from typing import Final

from tasker_zmq.store.reads.invariant import Invariant

_OPEN_TASKS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is ' || t.state || ': ' || string_agg(s.name || ' ' || s.state, ', ' ORDER BY s.name)
        AS detail
FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
WHERE t.completed_at IS NULL
GROUP BY t.task_id, t.state
HAVING NOT bool_or(s.state = 'in_doubt') OR bool_or(s.state IN ('in_progress', 'waiting_for_retry'))
    OR bool_or(s.state = 'pending' AND s.unfinished_parents = 0)"""

_OPEN_BATCHES: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'it is ' || b.state || ' and ' || b.reconciliation_status AS detail
FROM tasker_step_execution_batches b
WHERE b.state IN ('created', 'published', 'in_progress') OR b.reconciliation_status = 'pending'"""

_DEAD_LETTERS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ' with ' || count(d.*) || ' open dead letters' AS detail
FROM tasker_workflow_steps s
LEFT JOIN tasker_dead_letters d ON d.workflow_step_id = s.workflow_step_id
WHERE s.state IN ('error', 'in_doubt')
GROUP BY s.workflow_step_id, s.state HAVING count(d.*) <> 1"""

# Each start is a try, but for those that were taken back and those that are counted as losses.
_TRIES: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    s.attempts || ' attempts and ' || s.losses || ' losses, after ' || t.starts || ' starts and '
        || t.lost || ' times lost' AS detail
FROM tasker_workflow_steps s
JOIN LATERAL (
    SELECT count(*) FILTER (WHERE event_name = 'start') AS starts,
        count(*) FILTER (WHERE event_name = 'lose') AS lost
    FROM tasker_workflow_step_transitions WHERE workflow_step_id = s.workflow_step_id
) t ON true
LEFT JOIN tasker_dead_letters d ON d.workflow_step_id = s.workflow_step_id
    AND d.reason = 'max_losses_exceeded'
WHERE s.attempts - s.losses
    <> t.starts - t.lost - CASE WHEN d.workflow_step_id IS NULL THEN 0 ELSE 1 END"""

_SENT: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    t.starts || ' starts, and it was in ' || coalesce(b.batches, 0) || ' batches' AS detail
FROM tasker_workflow_steps s
JOIN LATERAL (
    SELECT count(*) FILTER (WHERE event_name = 'start') AS starts
    FROM tasker_workflow_step_transitions WHERE workflow_step_id = s.workflow_step_id
) t ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS batches FROM tasker_step_execution_batch_steps
    WHERE workflow_step_id = s.workflow_step_id
) b ON true
WHERE t.starts <> coalesce(b.batches, 0)"""

_ALL_TRIES: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it has used ' || s.attempts - s.losses || ' of ' || s.retry_limit + 1 || ' tries' AS detail
FROM tasker_workflow_steps s
JOIN tasker_dead_letters d USING (workflow_step_id)
WHERE d.reason = 'max_attempts_exceeded' AND s.retryable
    AND s.attempts - s.losses <> s.retry_limit + 1"""

_LOSSES: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it was lost ' || s.losses || ' times and is ' || s.state AS detail
FROM tasker_workflow_steps s
LEFT JOIN tasker_dead_letters d ON d.workflow_step_id = s.workflow_step_id
WHERE s.losses > 4 OR (d.reason = 'max_losses_exceeded') IS DISTINCT FROM (s.losses = 4)
    AND (s.losses = 4 OR d.reason = 'max_losses_exceeded')"""

# A success of a step that was not sent again counts, however late it comes.
_LATE: Final = """
SELECT 'ledger row ' || r.id AS subject,
    'a success of step ' || s.workflow_step_id || ', which was not sent again, is ' || r.verdict
        AS detail
FROM tasker_step_execution_batch_received_results r
JOIN tasker_step_execution_batch_steps bs ON bs.id = r.batch_step_id
JOIN tasker_workflow_steps s USING (workflow_step_id)
WHERE r.message_type = 'partial_result' AND r.status = 'completed'
    AND r.verdict IN ('late', 'duplicate') AND s.state <> 'error'
    AND coalesce(CAST(s.results AS text), 'null') <> 'null'
    AND NOT EXISTS (
        SELECT 1 FROM tasker_step_execution_batch_received_results a
        WHERE a.batch_step_id = r.batch_step_id AND a.verdict = 'applied')"""

_STALE: Final = """
SELECT 'ledger row ' || r.id AS subject,
    'it is stale, and its batch was the last one of step ' || bs.workflow_step_id AS detail
FROM tasker_step_execution_batch_received_results r
JOIN tasker_step_execution_batch_steps bs ON bs.id = r.batch_step_id
WHERE r.verdict = 'stale' AND NOT EXISTS (
    SELECT 1 FROM tasker_step_execution_batch_steps later
    WHERE later.workflow_step_id = bs.workflow_step_id AND later.batch_id > bs.batch_id)"""

_WAITS: Final = """
SELECT 'step ' || p.workflow_step_id AS subject,
    'it waited from ' || p.created_at || ' to ' || r.created_at || ', less than half of '
        || n.backoff_base_ms || ' ms' AS detail
FROM tasker_workflow_step_transitions p
JOIN tasker_workflow_step_transitions r
    ON r.workflow_step_id = p.workflow_step_id AND r.sort_key = p.sort_key + 1
JOIN tasker_workflow_steps s ON s.workflow_step_id = p.workflow_step_id
JOIN tasker_tasks t ON t.task_id = s.task_id
JOIN tasker_named_tasks_named_steps n USING (named_task_id, named_step_id)
WHERE p.event_name = 'postpone' AND r.event_name = 'retry'
    AND r.created_at - p.created_at < n.backoff_base_ms * interval '0.5 ms'"""

AT_REST: Final = (
    Invariant("at rest: tasks", "Every task has ended, or waits for a person.", _OPEN_TASKS),
    Invariant("at rest: batches", "Every batch has ended and was reconciled.", _OPEN_BATCHES),
    Invariant("dead letters", "What nobody will try again has a dead letter.", _DEAD_LETTERS),
    Invariant("tries", "Each start is a try, a loss or taken back.", _TRIES),
    Invariant("sendings", "Each start is a place in a batch.", _SENT),
    Invariant("all tries", "A step is given up after its last try, not before.", _ALL_TRIES),
    Invariant("losses", "A step is given up after its fourth loss, not before.", _LOSSES),
    Invariant("late successes", "A success of a step not sent again is applied.", _LATE),
    Invariant("waits", "A step waits before it is tried again.", _WAITS),
    Invariant("stale", "A result is stale only if the step was sent again.", _STALE),
)
