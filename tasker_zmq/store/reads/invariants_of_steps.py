"""What always holds of steps: who has them, how often they were sent, what became of them."""

from typing import Final

from tasker_zmq.store.reads.invariant import Invariant

_HELD: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is in progress, but ' || CASE WHEN bs.id IS NULL THEN 'not in its current batch'
        ELSE 'its batch ' || b.batch_id || ' is ' || b.state END AS detail
FROM tasker_workflow_steps s
LEFT JOIN tasker_step_execution_batches b ON b.batch_id = s.current_batch_id
LEFT JOIN tasker_step_execution_batch_steps bs
    ON bs.batch_id = s.current_batch_id AND bs.workflow_step_id = s.workflow_step_id
WHERE s.state = 'in_progress'
    AND (bs.id IS NULL OR b.state NOT IN ('created', 'published', 'in_progress'))
UNION ALL
SELECT 'step ' || s.workflow_step_id, 'it waits for a retry, and has no time for it'
FROM tasker_workflow_steps s
WHERE s.state = 'waiting_for_retry' AND s.next_attempt_at IS NULL"""

# Two anti-joins, so that each is a hash over the ledger instead of a look-up per step.
_RECORDED: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is complete, and the ledger has no word of that from batch '
        || coalesce(CAST(s.current_batch_id AS text), 'none') AS detail
FROM tasker_workflow_steps s
WHERE s.state = 'complete'
    AND NOT EXISTS (
        SELECT 1 FROM tasker_step_execution_batch_steps bs
        JOIN tasker_step_execution_batch_received_results r ON r.batch_step_id = bs.id
        WHERE bs.workflow_step_id = s.workflow_step_id AND bs.batch_id = s.current_batch_id
            AND r.message_type = 'partial_result' AND r.verdict = 'applied'
            AND r.status NOT IN ('failed', 'error', 'in_progress'))
    AND NOT EXISTS (
        SELECT 1 FROM tasker_step_execution_batch_received_results r
        WHERE r.batch_id = s.current_batch_id AND r.message_type IN ('batch_completion', 'results')
            AND r.verdict NOT IN ('rejected', 'unknown_batch'))"""

_ONE_OUTCOME: Final = """
SELECT 'batch step ' || r.batch_step_id AS subject,
    count(*) || ' outcomes were applied: ledger rows '
        || string_agg(CAST(r.id AS text), ', ' ORDER BY r.id) AS detail
FROM tasker_step_execution_batch_received_results r
WHERE r.message_type = 'partial_result' AND r.verdict = 'applied'
    AND r.status IS DISTINCT FROM 'in_progress' AND r.batch_step_id IS NOT NULL
GROUP BY r.batch_step_id HAVING count(*) > 1"""

_ONE_SUCCESS: Final = """
SELECT 'step ' || bs.workflow_step_id AS subject,
    count(*) || ' successes were applied: ledger rows '
        || string_agg(CAST(r.id AS text), ', ' ORDER BY r.id) AS detail
FROM tasker_step_execution_batch_received_results r
JOIN tasker_step_execution_batch_steps bs ON bs.id = r.batch_step_id
WHERE r.message_type = 'partial_result' AND r.verdict = 'applied'
    AND r.status NOT IN ('failed', 'error', 'in_progress')
GROUP BY bs.workflow_step_id HAVING count(*) > 1"""

_FINISHED: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ', and its finish time is '
        || coalesce(CAST(s.finished_at AS text), 'missing') AS detail
FROM tasker_workflow_steps s
WHERE (s.state IN ('complete', 'error') AND s.finished_at IS NULL)
   OR (s.state IN ('pending', 'in_progress', 'waiting_for_retry') AND s.finished_at IS NOT NULL)"""

_APPLIED_BELONGS: Final = """
SELECT 'ledger row ' || r.id AS subject,
    CASE WHEN bs.id IS NULL
        THEN 'it is ' || r.verdict || ', and names no step that its batch carried'
        ELSE 'it completed step ' || bs.workflow_step_id || ' in batch ' || r.batch_id
            || ', and the last batch of that step is '
            || coalesce(CAST(s.current_batch_id AS text), 'none') END AS detail
FROM tasker_step_execution_batch_received_results r
LEFT JOIN tasker_step_execution_batch_steps bs
    ON bs.id = r.batch_step_id AND bs.batch_id = r.batch_id
LEFT JOIN tasker_workflow_steps s ON s.workflow_step_id = bs.workflow_step_id
WHERE (r.batch_step_id IS NOT NULL AND bs.id IS NULL)
    OR (r.message_type = 'partial_result' AND r.verdict = 'applied' AND (
        bs.id IS NULL OR (r.status NOT IN ('failed', 'error', 'in_progress')
            AND s.current_batch_id IS DISTINCT FROM bs.batch_id)))"""

_PARENTS_FIRST: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ', and its parent ' || p.workflow_step_id || ' is ' || p.state AS detail
FROM tasker_workflow_steps s
JOIN tasker_workflow_step_edges e ON e.to_step_id = s.workflow_step_id
JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
WHERE s.state IN ('in_progress', 'complete') AND p.state NOT IN ('complete', 'resolved_manually')"""

# A person who retries a step gives it another life, in which both are counted from 0.
_ATTEMPTS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    s.attempts || ' attempts with ' || s.losses || ' losses; its retry limit is ' || s.retry_limit
        || CASE WHEN s.retryable THEN '' ELSE ', and it is not retryable' END AS detail
FROM tasker_workflow_steps s
WHERE s.attempts NOT BETWEEN 0
    AND s.losses + 1 + CASE WHEN s.retryable THEN s.retry_limit ELSE 0 END"""

# To lose a step that must not run twice means that it never began; a person may begin it again.
_ONCE: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it must not run twice; it was sent ' || count(*) FILTER (WHERE t.event_name = 'start')
        || ' times, and given back ' || count(*) FILTER (WHERE t.event_name = 'lose')
        || ' times before it began' AS detail
FROM tasker_workflow_steps s JOIN tasker_workflow_step_transitions t USING (workflow_step_id)
WHERE NOT s.retryable
GROUP BY s.workflow_step_id
HAVING count(*) FILTER (WHERE t.event_name = 'start')
    > 1 + count(*) FILTER (WHERE t.event_name = 'lose'
        OR (t.event_name = 'retry' AND t.from_state IN ('error', 'in_doubt')))"""

# A sending is charged as an attempt, or was given back; what was lost is charged as a loss, or was.
_LOSSES: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it was sent ' || t.starts || ' times and lost or given back ' || t.loses
        || ' times; it counts ' || s.attempts || ' attempts and ' || s.losses || ' losses' AS detail
FROM tasker_workflow_steps s JOIN (
    SELECT workflow_step_id, count(*) FILTER (WHERE event_name = 'start') AS starts,
        count(*) FILTER (WHERE event_name = 'lose') AS loses,
        count(*) FILTER (WHERE event_name = 'fail' AND from_state = 'in_progress') AS failures,
        bool_or(event_name = 'retry' AND from_state IN ('error', 'in_doubt')) AS revived
    FROM tasker_workflow_step_transitions GROUP BY workflow_step_id
) t USING (workflow_step_id)
WHERE NOT t.revived AND (s.losses < 0 OR s.attempts > t.starts
    OR t.starts - s.attempts + s.losses NOT BETWEEN t.loses AND t.loses + t.failures)"""

# A letter that was requeued belongs to the step's life before; an ended task may have none left.
_DEAD_LETTERS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ', and no dead letter says so' AS detail
FROM tasker_workflow_steps s JOIN tasker_tasks t USING (task_id)
WHERE s.state IN ('error', 'in_doubt') AND t.state IN ('pending', 'in_progress', 'error')
    AND NOT EXISTS (
        SELECT 1 FROM tasker_dead_letters d
        WHERE d.workflow_step_id = s.workflow_step_id AND d.status <> 'requeued')"""

_UNFINISHED_PARENTS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it counts ' || s.unfinished_parents || ' unfinished parents; there are '
        || count(p.workflow_step_id) AS detail
FROM tasker_workflow_steps s
LEFT JOIN tasker_workflow_step_edges e ON e.to_step_id = s.workflow_step_id
LEFT JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
    AND p.state NOT IN ('complete', 'resolved_manually')
GROUP BY s.workflow_step_id HAVING s.unfinished_parents <> count(p.workflow_step_id)"""

_OPEN_LETTERS: Final = """
SELECT 'dead letter ' || d.dead_letter_id AS subject,
    'it is open, and its step ' || s.workflow_step_id || ' is ' || s.state AS detail
FROM tasker_dead_letters d JOIN tasker_workflow_steps s USING (workflow_step_id)
WHERE d.status = 'open' AND s.state NOT IN ('error', 'in_doubt')"""

STEP_INVARIANTS: Final = (
    Invariant(
        "I1 held",
        "A step in progress is in its current batch, which is open; a waiting one has a time.",
        _HELD,
    ),
    Invariant("I2 recorded", "What completed a step is in the ledger.", _RECORDED),
    Invariant("I3 one outcome", "At most one outcome is applied per step and batch.", _ONE_OUTCOME),
    Invariant("I3 one success", "At most one success is applied per step.", _ONE_SUCCESS),
    Invariant("I3 finish time", "A step has a finish time exactly when it has ended.", _FINISHED),
    Invariant(
        "I4 current batch",
        "A result belonged to a batch that carried the step; an applied success to its last one.",
        _APPLIED_BELONGS,
    ),
    Invariant("I6 parents first", "A step is sent only after all its parents.", _PARENTS_FIRST),
    Invariant("I7 attempts", "A step is not sent more often than its retries allow.", _ATTEMPTS),
    Invariant("I7 once", "A step that must not run twice begins once.", _ONCE),
    Invariant("I7 losses", "Sendings of a step are tries, losses, or were given back.", _LOSSES),
    Invariant("I7 dead letters", "A step in error or in doubt has a dead letter.", _DEAD_LETTERS),
    Invariant("open letters", "An open dead letter's step is in error or in doubt.", _OPEN_LETTERS),
    Invariant(
        "unfinished parents", "A step counts its unfinished parents rightly.", _UNFINISHED_PARENTS
    ),
)
