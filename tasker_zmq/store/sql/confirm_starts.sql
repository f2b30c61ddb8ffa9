-- confirm_starts: of the steps that a session asks about, those that it may begin now: its batch is
-- their current one, and their task was not cancelled. Asking twice gets the same answer; the first
-- moment is kept.
WITH held AS MATERIALIZED (
    SELECT s.workflow_step_id, b.batch_id
    FROM tasker_step_execution_batches b
    JOIN tasker_workflow_steps s
        ON s.workflow_step_id = ANY(CAST(:step_ids AS bigint[])) AND s.state = 'in_progress'
        AND s.current_batch_id = b.batch_id
        AND (SELECT t.state <> 'cancelled' FROM tasker_tasks t WHERE t.task_id = s.task_id)
    WHERE b.batch_uuid = CAST(:batch_uuid AS uuid) AND b.session_id = :session_id
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE OF s
)
UPDATE tasker_step_execution_batch_steps bs
SET confirmed_at = coalesce(bs.confirmed_at, CAST(:now AS timestamptz))
FROM held h WHERE bs.batch_id = h.batch_id AND bs.workflow_step_id = h.workflow_step_id
RETURNING bs.workflow_step_id AS step_id;
