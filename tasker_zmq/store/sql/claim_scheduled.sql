-- claim_scheduled: makes this core the owner of tasks whose time has come and that nobody owns, and
-- gives their steps that may be sent now; a task without such a step comes once, with none.
WITH held AS MATERIALIZED (
    SELECT t.task_id FROM tasker_tasks t
    WHERE t.completed_at IS NULL AND t.processing_core_id IS NULL
      AND t.scheduled_for <= CAST(:now AS timestamptz) AND t.state IN ('pending', 'in_progress')
      AND NOT EXISTS ( -- what this core itself gave up of late it leaves to others
          SELECT 1 FROM tasker_ready_task_coordination c
          WHERE c.task_id = t.task_id AND c.core_id = :core_id
            AND c.expires_at > CAST(:now AS timestamptz))
    ORDER BY t.scheduled_for, t.task_id LIMIT :at_most
    FOR NO KEY UPDATE OF t SKIP LOCKED
),
claimed AS (
    UPDATE tasker_tasks t
    SET processing_core_id = :core_id, claimed_at = CAST(:now AS timestamptz)
    FROM held WHERE t.task_id = held.task_id
    RETURNING t.task_id, t.named_task_id, t.priority, t.paused
)
SELECT c.task_id, c.named_task_id, c.priority, s.workflow_step_id AS step_id, s.named_step_id,
    s.attempts, s.retry_limit, s.created_at AS step_created_at
FROM claimed c
LEFT JOIN LATERAL (
    SELECT w.workflow_step_id, w.named_step_id, w.attempts, w.retry_limit, w.created_at
    FROM tasker_workflow_steps w
    WHERE w.task_id = c.task_id AND w.state = 'pending' AND w.unfinished_parents = 0
      AND NOT c.paused
      AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= CAST(:now AS timestamptz))
) s ON true;
