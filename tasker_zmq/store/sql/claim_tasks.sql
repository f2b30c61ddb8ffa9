-- claim_tasks: makes this core the owner of open tasks that nobody living owns. It steps from owner
-- to owner through the index, so that thousands of tasks of the living cost nothing. Those that
-- were scheduled and that nobody owns are claim_scheduled's; what this core itself gave up of late
-- it leaves to others.
WITH RECURSIVE owner AS (
    (
        SELECT t.processing_core_id AS core_id FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.processing_core_id IS NOT NULL
        ORDER BY t.processing_core_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT t.processing_core_id FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.processing_core_id > o.core_id
        ORDER BY t.processing_core_id LIMIT 1
    )
    FROM owner o WHERE o.core_id IS NOT NULL
),
dead AS MATERIALIZED (
    SELECT o.core_id FROM owner o
    WHERE o.core_id <> :core_id AND NOT EXISTS (
        SELECT 1 FROM tasker_cores c
        WHERE c.core_id = o.core_id AND c.lease_expires_at > CAST(:now AS timestamptz))
),
held AS MATERIALIZED (
    SELECT theirs.task_id FROM dead CROSS JOIN LATERAL (
        SELECT t.task_id FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
          AND t.processing_core_id = dead.core_id
        ORDER BY (- t.priority), t.task_id LIMIT :at_most
        FOR NO KEY UPDATE SKIP LOCKED
    ) theirs
    UNION ALL
    SELECT nobodys.task_id FROM (
        SELECT t.task_id FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
          AND t.processing_core_id IS NULL AND t.scheduled_for IS NULL
          AND NOT EXISTS (
              SELECT 1 FROM tasker_ready_task_coordination c
              WHERE c.task_id = t.task_id AND c.core_id = :core_id
                AND c.expires_at > CAST(:now AS timestamptz))
        ORDER BY (- t.priority), t.task_id LIMIT :at_most
        FOR NO KEY UPDATE OF t SKIP LOCKED
    ) nobodys
    LIMIT :at_most
)
UPDATE tasker_tasks t SET processing_core_id = :core_id, claimed_at = CAST(:now AS timestamptz)
FROM held WHERE t.task_id = held.task_id
RETURNING t.task_id;
