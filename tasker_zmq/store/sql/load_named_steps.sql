-- load_named_steps: the batches and steps that results name, locked in key order (batches, then
-- steps). A row with no batch_step_id names a batch only, or a step that the batch never carried.
WITH named AS MATERIALIZED (
    SELECT DISTINCT u.batch_uuid, u.step_id
    FROM unnest(CAST(:batch_uuids AS uuid[]), CAST(:step_ids AS bigint[])) AS u(batch_uuid, step_id)
),
held_batches AS MATERIALIZED (
    SELECT b.* FROM tasker_step_execution_batches b
    WHERE b.batch_uuid = ANY(CAST(:batch_uuids AS uuid[]))
    ORDER BY b.batch_id FOR NO KEY UPDATE
),
carried AS MATERIALIZED (
    SELECT n.batch_uuid, n.step_id, b.batch_id, bs.id AS batch_step_id, bs.workflow_step_id,
        bs.confirmed_at
    FROM named n
    JOIN held_batches b USING (batch_uuid)
    LEFT JOIN tasker_step_execution_batch_steps bs
        ON bs.batch_id = b.batch_id AND bs.workflow_step_id = n.step_id
),
held_steps AS MATERIALIZED (
    SELECT s.workflow_step_id, s.task_id, s.named_step_id, s.state, s.current_batch_id, s.attempts,
        s.retry_limit, s.retryable, s.losses, s.unheard
    FROM tasker_workflow_steps s
    WHERE s.workflow_step_id IN (SELECT workflow_step_id FROM carried)
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE
)
SELECT c.batch_uuid::text AS batch_uuid, c.step_id, b.batch_id, b.state AS batch_state,
    b.batch_size, b.session_id, b.completed_steps, b.failed_steps, b.partial_results_received,
    b.final_completion_received, b.reconciliation_status, b.transitions AS batch_transitions,
    b.published_at, c.batch_step_id, s.workflow_step_id, s.task_id, s.named_step_id,
    s.state AS step_state, s.current_batch_id, s.attempts, s.retry_limit, s.retryable,
    s.losses, s.unheard, c.confirmed_at,
    task.named_task_id, task.cancelled AS task_cancelled
FROM carried c
JOIN held_batches b USING (batch_id)
LEFT JOIN held_steps s USING (workflow_step_id)
LEFT JOIN LATERAL ( -- with a limit it is no join that might be a walk through all tasks
    SELECT t.named_task_id, t.state = 'cancelled' AS cancelled
    FROM tasker_tasks t WHERE t.task_id = s.task_id LIMIT 1
) task ON true;
