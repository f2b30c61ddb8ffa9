-- start_tasks: moves pending tasks to in_progress when no step of theirs is sent (one cannot be).
WITH moved AS (
    UPDATE tasker_tasks t SET state = 'in_progress', transitions = t.transitions + 1
    WHERE t.task_id = ANY(CAST(:task_ids AS bigint[])) AND t.state = 'pending'
    RETURNING t.task_id, t.transitions
)
INSERT INTO tasker_task_transitions
    (task_id, sort_key, from_state, to_state, event_name, created_at)
SELECT task_id, transitions, 'pending', 'in_progress', 'start', CAST(:now AS timestamptz)
FROM moved;
