-- load_directed_steps: steps that somebody wants sent to one worker, with what decides whether they
-- may be: how they and their tasks stand, which parents are not done, who has them in progress.
SELECT s.workflow_step_id AS step_id, s.task_id, s.named_step_id, t.named_task_id, t.priority,
    s.attempts, s.retry_limit, s.created_at AS step_created_at, s.name, s.state,
    s.next_attempt_at, t.state AS task_state, t.paused, t.scheduled_for,
    t.processing_core_id AS core_id,
    EXISTS (
        SELECT 1 FROM tasker_cores c
        WHERE c.core_id = t.processing_core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
    ) AS core_alive,
    CASE WHEN s.unfinished_parents > 0 THEN ARRAY(
        SELECT p.name FROM tasker_workflow_step_edges e
        JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
        WHERE e.to_step_id = s.workflow_step_id
          AND p.state NOT IN ('complete', 'resolved_manually')
        ORDER BY p.workflow_step_id
    ) ELSE '{}' END AS parents,
    CASE WHEN s.state = 'in_progress' THEN (
        SELECT w.worker_name FROM tasker_step_execution_batches b
        JOIN tasker_worker_registrations r USING (registration_id)
        JOIN tasker_workers w USING (worker_id)
        WHERE b.batch_id = s.current_batch_id
    ) END AS worker
FROM unnest(CAST(:step_ids AS bigint[])) AS u(step_id)
JOIN tasker_workflow_steps s ON s.workflow_step_id = u.step_id
JOIN tasker_tasks t ON t.task_id = s.task_id
ORDER BY s.workflow_step_id;
