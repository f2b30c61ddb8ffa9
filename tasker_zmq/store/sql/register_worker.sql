-- register_worker: a worker as it describes itself now, and a session of it. One statement, because
-- a thousand workers register at once when a daemon comes back. Returns both ids.
WITH described AS (
    INSERT INTO tasker_workers AS w
        (worker_name, metadata, declared_tasks, exclusive, created_at, updated_at)
    VALUES (
        :worker_name, CAST(:metadata AS jsonb), CAST(:declared_tasks AS jsonb),
        CAST(:exclusive AS boolean), CAST(:now AS timestamptz), CAST(:now AS timestamptz)
    )
    ON CONFLICT (worker_name) DO UPDATE SET
        metadata = excluded.metadata, declared_tasks = excluded.declared_tasks,
        exclusive = excluded.exclusive, updated_at = excluded.updated_at
    RETURNING w.worker_id
)
INSERT INTO tasker_worker_registrations AS r
    (worker_id, session_id, core_id, status, connection_type, connection_details, protocol_version,
     handlers, credit, last_heartbeat_at, registered_at)
SELECT d.worker_id, :session_id, :core_id, 'registered', :connection_type,
    CAST(:connection_details AS jsonb), :protocol_version, CAST(:handlers AS jsonb),
    CAST(:credit AS integer), CAST(:now AS timestamptz), CAST(:now AS timestamptz)
FROM described d
RETURNING r.worker_id, r.registration_id;
