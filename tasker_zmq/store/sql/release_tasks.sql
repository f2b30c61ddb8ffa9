-- release_tasks: gives up this core's claims on tasks of which no step is with a worker, keeps why
-- and for how long it leaves them to others, and forgets of other tasks what is over.
WITH held AS MATERIALIZED (
    SELECT t.task_id FROM tasker_tasks t
    WHERE t.task_id = ANY(CAST(:task_ids AS bigint[])) AND t.processing_core_id = :core_id
      AND t.state IN ('pending', 'in_progress')
    ORDER BY t.task_id FOR NO KEY UPDATE
),
released AS (
    UPDATE tasker_tasks t SET processing_core_id = NULL, claimed_at = NULL
    FROM held WHERE t.task_id = held.task_id AND NOT EXISTS (
        SELECT 1 FROM tasker_workflow_steps s
        WHERE s.task_id = held.task_id AND s.state = 'in_progress')
    RETURNING t.task_id
),
over AS (
    DELETE FROM tasker_ready_task_coordination c
    WHERE c.expires_at <= CAST(:now AS timestamptz)
      AND c.task_id <> ALL(CAST(:task_ids AS bigint[]))
),
kept AS (
    INSERT INTO tasker_ready_task_coordination AS c
        (task_id, core_id, reason, asked_by, created_at, expires_at)
    SELECT task_id, :core_id, :reason, :asked_by, CAST(:now AS timestamptz),
        CAST(:expires_at AS timestamptz)
    FROM released
    ON CONFLICT (task_id, core_id) DO UPDATE SET reason = excluded.reason,
        asked_by = excluded.asked_by, created_at = excluded.created_at,
        expires_at = excluded.expires_at
)
SELECT held.task_id, released.task_id IS NOT NULL AS released
FROM held LEFT JOIN released USING (task_id);
