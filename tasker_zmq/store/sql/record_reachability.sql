-- record_reachability: whether a core reaches workers, named, by a transport; null removes the row.
WITH said AS MATERIALIZED (
    SELECT w.worker_id, u.reachable
    FROM unnest(CAST(:worker_names AS text[]), CAST(:reachable AS boolean[]))
        AS u(worker_name, reachable)
    JOIN tasker_workers w USING (worker_name)
), removed AS (
    DELETE FROM tasker_worker_transport_availability t USING said
    WHERE said.reachable IS NULL AND t.worker_id = said.worker_id
      AND t.core_id = :core_id AND t.transport_type = :transport
)
INSERT INTO tasker_worker_transport_availability AS t
    (worker_id, core_id, transport_type, is_reachable, last_verified_at)
SELECT worker_id, :core_id, :transport, reachable, CAST(:now AS timestamptz)
FROM said WHERE reachable IS NOT NULL ORDER BY worker_id
ON CONFLICT (worker_id, core_id, transport_type) DO UPDATE
SET is_reachable = excluded.is_reachable, last_verified_at = excluded.last_verified_at;
