-- show_task_steps: the steps of one task, parents first. A step in progress is with the worker that
-- has its batch, before any result says so.
SELECT s.workflow_step_id AS step_id, s.name, s.state, s.attempts, s.retry_limit + 1 AS tries,
    s.retryable, s.losses,
    CASE WHEN s.state = 'in_progress' THEN coalesce(w.worker_name, b.session_id)
        ELSE s.worker_name END AS worker,
    CASE WHEN s.state = 'in_progress' THEN r.status END AS session_status,
    d.handler_class, s.started_at, s.finished_at, s.next_attempt_at, s.results, s.error
FROM tasker_workflow_steps s
JOIN tasker_tasks t USING (task_id)
LEFT JOIN tasker_named_tasks_named_steps d
    ON d.named_task_id = t.named_task_id AND d.named_step_id = s.named_step_id
LEFT JOIN tasker_step_execution_batches b ON b.batch_id = s.current_batch_id
LEFT JOIN tasker_worker_registrations r USING (registration_id)
LEFT JOIN tasker_workers w USING (worker_id)
WHERE s.task_id = CAST(:task_id AS bigint)
ORDER BY s.workflow_step_id;
