-- expired_batches: batches whose time is over, with all their steps, locked in key order.
WITH expired AS MATERIALIZED (
    SELECT b.* FROM tasker_step_execution_batches b
    WHERE b.batch_id = ANY(CAST(:batch_ids AS bigint[]))
    ORDER BY b.batch_id FOR NO KEY UPDATE
),
held AS MATERIALIZED (
    SELECT s.workflow_step_id, s.task_id, s.named_step_id, s.state, s.current_batch_id, s.attempts,
        s.retry_limit, s.retryable, s.losses, s.unheard
    FROM tasker_workflow_steps s
    WHERE s.workflow_step_id IN (
        SELECT bs.workflow_step_id FROM expired e
        JOIN tasker_step_execution_batch_steps bs USING (batch_id))
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE
)
SELECT e.batch_uuid::text AS batch_uuid, bs.workflow_step_id AS step_id, e.batch_id,
    e.state AS batch_state, e.batch_size, e.session_id, e.completed_steps, e.failed_steps,
    e.partial_results_received, e.final_completion_received, e.reconciliation_status,
    e.transitions AS batch_transitions, e.published_at, e.core_id, bs.id AS batch_step_id,
    h.workflow_step_id,
    h.task_id, h.named_step_id, h.state AS step_state, h.current_batch_id, h.attempts,
    h.retry_limit, h.retryable, h.losses, h.unheard, bs.confirmed_at,
    task.named_task_id, task.cancelled AS task_cancelled
FROM expired e
JOIN tasker_step_execution_batch_steps bs USING (batch_id)
JOIN held h USING (workflow_step_id)
LEFT JOIN LATERAL ( -- with a limit it is no join that might be a walk through all tasks
    SELECT t.named_task_id, t.state = 'cancelled' AS cancelled
    FROM tasker_tasks t WHERE t.task_id = h.task_id LIMIT 1
) task ON true;
