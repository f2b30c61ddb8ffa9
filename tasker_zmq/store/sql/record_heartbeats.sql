-- record_heartbeats: the last sign of life and the load of many sessions in one statement.
UPDATE tasker_worker_registrations r
SET last_heartbeat_at = u.moment, current_load = u.load, status = :status
FROM unnest(
    CAST(:session_ids AS text[]), CAST(:loads AS integer[]), CAST(:moments AS timestamptz[]))
    AS u(session_id, load, moment)
WHERE r.session_id = u.session_id AND r.unregistered_at IS NULL;
