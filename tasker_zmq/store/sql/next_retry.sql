-- next_retry: when the next waiting step of this core's tasks is due, so that the engine knows how
-- long it may sleep; what waits for another core must not keep this one awake.
SELECT s.next_attempt_at FROM tasker_workflow_steps s
JOIN tasker_tasks t ON t.task_id = s.task_id AND t.processing_core_id = :core_id
WHERE s.next_attempt_at IS NOT NULL AND s.state = 'waiting_for_retry'
ORDER BY s.next_attempt_at LIMIT 1;
