-- unsettled_batches: what a starting daemon must watch: batches that are open or not reconciled.
SELECT b.batch_id, b.state, b.session_id, b.batch_size, b.timeout_seconds, b.created_at,
    b.published_at, b.final_completion_received, b.updated_at, b.batch_size - b.completed_steps
        - b.failed_steps AS steps_in_flight
FROM tasker_step_execution_batches b
WHERE (b.reconciliation_status = 'pending' OR b.state IN ('created', 'published', 'in_progress'))
  AND b.core_id = :core_id AND b.batch_id > :after_batch_id
ORDER BY b.batch_id LIMIT :at_most;
