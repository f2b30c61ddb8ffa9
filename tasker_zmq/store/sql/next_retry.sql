-- next_retry: when the next waiting step is due, so that the engine knows how long it may sleep.
SELECT min(s.next_attempt_at) FROM tasker_workflow_steps s
WHERE s.next_attempt_at IS NOT NULL AND s.state = 'waiting_for_retry';
