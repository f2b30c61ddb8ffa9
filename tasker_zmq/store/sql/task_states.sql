-- task_states: how tasks stand, for whoever waits for them.
SELECT t.task_id, t.state
FROM tasker_tasks t
WHERE t.task_id = ANY(CAST(:task_ids AS bigint[]));
