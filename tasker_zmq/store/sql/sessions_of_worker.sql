-- sessions_of_worker: those of the sessions that were this worker's.
SELECT r.session_id
FROM tasker_worker_registrations r
WHERE r.session_id = ANY(CAST(:session_ids AS text[])) AND r.worker_id = CAST(:worker_id AS bigint);
