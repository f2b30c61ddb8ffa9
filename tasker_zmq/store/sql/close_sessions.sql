-- close_sessions: sessions that are open no more.
UPDATE tasker_worker_registrations r
SET status = 'disconnected', unregistered_at = CAST(:now AS timestamptz)
WHERE r.session_id = ANY(CAST(:session_ids AS text[])) AND r.unregistered_at IS NULL;
