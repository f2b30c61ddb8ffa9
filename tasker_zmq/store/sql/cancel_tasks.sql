-- cancel_tasks: ends tasks because a person said so; from then on no step of theirs starts.
WITH held AS MATERIALIZED (
    SELECT t.task_id, t.state FROM tasker_tasks t
    WHERE t.task_id = ANY(CAST(:task_ids AS bigint[]))
      AND t.state = ANY(CAST(:from_states AS text[]))
    ORDER BY t.task_id FOR NO KEY UPDATE
),
moved AS (
    UPDATE tasker_tasks t SET state = 'cancelled', transitions = t.transitions + 1,
        completed_at = CAST(:now AS timestamptz)
    FROM held h WHERE t.task_id = h.task_id
    RETURNING t.task_id, t.transitions, h.state AS from_state
)
INSERT INTO tasker_task_transitions
    (task_id, sort_key, from_state, to_state, event_name, metadata, created_at)
SELECT task_id, transitions, from_state, 'cancelled', 'cancel', CAST(:metadata AS json),
    CAST(:now AS timestamptz)
FROM moved
RETURNING task_id;
