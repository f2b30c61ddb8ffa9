-- fail_tasks: ends tasks in which nothing can proceed any more; the error names the failed steps,
-- and those that a person cancelled.
WITH held AS MATERIALIZED (
    SELECT task_id, state FROM tasker_tasks
    WHERE task_id = ANY(CAST(:task_ids AS bigint[])) AND state IN ('pending', 'in_progress')
    ORDER BY task_id FOR NO KEY UPDATE
),
moved AS (
    UPDATE tasker_tasks t SET state = 'error', transitions = t.transitions + 1,
        completed_at = CAST(:now AS timestamptz),
        error = (
            SELECT json_strip_nulls(json_build_object(
                'failed_steps', coalesce(
                    json_agg(s.name ORDER BY s.workflow_step_id) FILTER (WHERE s.state = 'error'),
                    '[]'),
                'cancelled_steps',
                    json_agg(s.name ORDER BY s.workflow_step_id)
                        FILTER (WHERE s.state = 'cancelled')))
            FROM tasker_workflow_steps s
            WHERE s.task_id = t.task_id AND s.state IN ('error', 'cancelled')
        )
    FROM held WHERE t.task_id = held.task_id
    RETURNING t.task_id, t.transitions, held.state AS from_state
)
INSERT INTO tasker_task_transitions
    (task_id, sort_key, from_state, to_state, event_name, created_at)
SELECT task_id, transitions, from_state, 'error', 'fail', CAST(:now AS timestamptz) FROM moved
RETURNING task_id;
