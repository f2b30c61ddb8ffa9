-- take_over_batches: batches that are not settled and whose core is dead become this core's, unless
-- another core is taking them right now.
WITH held AS MATERIALIZED (
    SELECT theirs.batch_id FROM tasker_cores dead CROSS JOIN LATERAL (
        SELECT b.batch_id FROM tasker_step_execution_batches b
        WHERE (b.reconciliation_status = 'pending'
               OR b.state IN ('created', 'published', 'in_progress'))
          AND b.core_id = dead.core_id
        ORDER BY b.batch_id LIMIT :at_most
        FOR NO KEY UPDATE SKIP LOCKED
    ) theirs
    WHERE dead.core_id <> :core_id AND dead.lease_expires_at <= CAST(:now AS timestamptz)
    LIMIT :at_most
)
UPDATE tasker_step_execution_batches b
SET core_id = :core_id, updated_at = CAST(:now AS timestamptz)
FROM held WHERE b.batch_id = held.batch_id
RETURNING b.batch_id, b.state, b.session_id, b.timeout_seconds, b.created_at;
