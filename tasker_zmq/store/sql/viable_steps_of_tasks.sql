-- viable_steps_of_tasks: steps of these tasks that may be sent now, the oldest first.
SELECT s.workflow_step_id AS step_id, s.task_id, s.named_step_id, t.named_task_id, t.priority,
    s.attempts, s.retry_limit, s.created_at AS step_created_at
FROM unnest(CAST(:task_ids AS bigint[])) AS u(task_id)
JOIN tasker_tasks t USING (task_id)
JOIN tasker_workflow_steps s USING (task_id)
WHERE t.state IN ('pending', 'in_progress') AND NOT t.paused AND t.processing_core_id = :core_id
  AND s.state = 'pending' AND s.unfinished_parents = 0
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= CAST(:now AS timestamptz))
ORDER BY s.workflow_step_id LIMIT :at_most;
