-- claim_tasks: makes this core the owner of open tasks that nobody living owns.
WITH held AS MATERIALIZED (
    SELECT t.task_id FROM tasker_tasks t
    WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
      AND t.processing_core_id IS DISTINCT FROM :core_id
      AND NOT EXISTS (
          SELECT 1 FROM tasker_cores c
          WHERE c.core_id = t.processing_core_id AND c.lease_expires_at > CAST(:now AS timestamptz))
    ORDER BY t.priority DESC, t.task_id LIMIT :at_most
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE tasker_tasks t SET processing_core_id = :core_id, claimed_at = CAST(:now AS timestamptz)
FROM held WHERE t.task_id = held.task_id
RETURNING t.task_id;
