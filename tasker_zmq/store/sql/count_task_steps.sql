-- count_task_steps: how the steps of tasks with a failure stand, so that it can be decided whether
-- anything can still proceed.
SELECT s.task_id,
    count(*) FILTER (WHERE s.state = 'in_progress') AS running,
    count(*) FILTER (WHERE s.state = 'waiting_for_retry') AS waiting,
    count(*) FILTER (WHERE s.state = 'pending' AND s.unfinished_parents = 0) AS ready,
    count(*) FILTER (WHERE s.state = 'in_doubt') AS in_doubt,
    count(*) FILTER (WHERE s.state IN ('error', 'cancelled')) AS failed
FROM tasker_workflow_steps s
WHERE s.task_id = ANY(CAST(:task_ids AS bigint[]))
GROUP BY s.task_id;
