-- record_heartbeats: the last sign of life, load and credit of many sessions in one statement.
UPDATE tasker_worker_registrations r
SET last_heartbeat_at = u.moment, current_load = u.load, credit = u.credit, status = :status
FROM unnest(
    CAST(:session_ids AS text[]), CAST(:loads AS integer[]), CAST(:moments AS timestamptz[]),
    CAST(:credits AS integer[]))
    AS u(session_id, load, moment, credit)
WHERE r.session_id = u.session_id AND r.unregistered_at IS NULL;
