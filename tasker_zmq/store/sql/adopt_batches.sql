-- adopt_batches: gives batches that a worker still has in hand to its new session; only batches of
-- an earlier session of the very same worker: by their number, if both are of one process.
WITH held AS MATERIALIZED (
    SELECT b.batch_id FROM tasker_step_execution_batches b
    JOIN tasker_worker_registrations r USING (registration_id)
    WHERE b.batch_uuid = ANY(CAST(:batch_uuids AS uuid[])) AND r.worker_id = :worker_id
      AND b.session_id <> :session_id
      AND NOT (r.connection_details -> 'registrations' > to_jsonb(CAST(:registrations AS integer))
               AND coalesce(r.connection_details ->> 'instance' = :instance, false))
    ORDER BY b.batch_id FOR NO KEY UPDATE OF b
)
UPDATE tasker_step_execution_batches b SET session_id = :session_id,
    registration_id = :registration_id, core_id = :core_id, updated_at = CAST(:now AS timestamptz)
FROM held WHERE b.batch_id = held.batch_id
RETURNING b.batch_id, b.batch_uuid::text AS batch_uuid, b.state,
    b.reconciliation_status = 'pending' AS unsettled, b.timeout_seconds, b.created_at;
