-- retries_due: which waiting steps of this core's tasks may be tried again; held until the commit.
SELECT s.workflow_step_id AS step_id
FROM tasker_workflow_steps s
JOIN tasker_tasks t ON t.task_id = s.task_id AND t.processing_core_id = :core_id
WHERE s.next_attempt_at <= CAST(:now AS timestamptz) AND s.state = 'waiting_for_retry'
ORDER BY s.next_attempt_at LIMIT :at_most
FOR NO KEY UPDATE OF s SKIP LOCKED;
