-- recent_durations: how long the newest tasks took that are complete, in the middle, by definition.
SELECT t.named_task_id, CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(
        epoch FROM t.completed_at - greatest(t.requested_at, t.scheduled_for)) * 1000) AS bigint)
    AS duration_ms
FROM (
    SELECT n.named_task_id, n.state, n.requested_at, n.scheduled_for, n.completed_at
    FROM tasker_tasks n ORDER BY n.task_id DESC LIMIT :at_most
) t
WHERE t.state = 'complete'
GROUP BY t.named_task_id;
