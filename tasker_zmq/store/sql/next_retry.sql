-- next_retry: when the next waiting step of this core's tasks is due, so that the engine knows how
-- long it may sleep; what waits for another core must not keep this one awake.
SELECT s.next_attempt_at FROM tasker_workflow_steps s
WHERE s.next_attempt_at IS NOT NULL AND s.state = 'waiting_for_retry'
  AND :core_id = (SELECT t.processing_core_id FROM tasker_tasks t WHERE t.task_id = s.task_id)
ORDER BY s.next_attempt_at LIMIT 1;
