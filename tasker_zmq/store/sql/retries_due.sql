-- retries_due: which waiting steps of this core's tasks may be tried again; held until the commit.
SELECT s.workflow_step_id AS step_id
FROM tasker_workflow_steps s
WHERE s.next_attempt_at <= CAST(:now AS timestamptz) AND s.state = 'waiting_for_retry'
  AND :core_id = (SELECT t.processing_core_id FROM tasker_tasks t WHERE t.task_id = s.task_id)
ORDER BY s.next_attempt_at LIMIT :at_most
FOR NO KEY UPDATE OF s SKIP LOCKED;
