-- load_controlled_tasks: tasks that a person names, locked in key order, and how many steps of
-- theirs failed. `elsewhere` is another living core that has steps of the task running.
WITH held AS MATERIALIZED (
    SELECT t.task_id, t.state, t.paused, t.processing_core_id AS core_id
    FROM tasker_tasks t WHERE t.task_id = ANY(CAST(:task_ids AS bigint[]))
    ORDER BY t.task_id FOR NO KEY UPDATE
)
SELECT h.task_id, h.state, h.paused,
    CASE WHEN h.core_id <> :core_id AND s.running AND EXISTS (
        SELECT 1 FROM tasker_cores c
        WHERE c.core_id = h.core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
    ) THEN h.core_id END AS elsewhere,
    s.failed, s.in_doubt, s.cancelled
FROM held h CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(s.state = 'in_progress'), false) AS running,
        count(*) FILTER (WHERE s.state = 'error') AS failed,
        count(*) FILTER (WHERE s.state = 'in_doubt') AS in_doubt,
        count(*) FILTER (WHERE s.state = 'cancelled') AS cancelled
    FROM tasker_workflow_steps s WHERE s.task_id = h.task_id
) s
ORDER BY h.task_id;
