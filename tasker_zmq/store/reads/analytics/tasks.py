"""How the tasks of each workflow fare."""

from typing import Final

from sqlalchemy import Connection

from tasker_zmq.store.reads.analytics.window import Found, Window, found

TASK_PERFORMANCE: Final = """
WITH ended AS MATERIALIZED (
    SELECT t.named_task_id, t.state,
        extract(epoch FROM t.completed_at - t.requested_at) * 1000 AS ms
    FROM tasker_tasks t
    WHERE t.completed_at >= CAST(:since AS timestamptz)
      AND t.completed_at < CAST(:until AS timestamptz)
    ORDER BY t.completed_at DESC LIMIT :rows_max
),
open AS MATERIALIZED (
    SELECT t.named_task_id FROM tasker_tasks t WHERE t.completed_at IS NULL LIMIT :rows_max
),
read AS (SELECT greatest((SELECT count(*) FROM ended), (SELECT count(*) FROM open)) AS rows_read),
figures AS (
    SELECT e.named_task_id, count(*) AS ended,
        count(*) FILTER (WHERE e.state = 'complete') AS complete,
        count(*) FILTER (WHERE e.state = 'error') AS error,
        count(*) FILTER (WHERE e.state = 'cancelled') AS cancelled,
        CAST(percentile_cont(ARRAY[0.5, 0.95, 1.0]) WITHIN GROUP (ORDER BY e.ms) AS float8[]) AS ms
    FROM ended e GROUP BY e.named_task_id
),
standing AS (SELECT o.named_task_id, count(*) AS open FROM open o GROUP BY o.named_task_id)
SELECT n.name || '/' || nt.name || '@' || nt.version AS workflow,
    coalesce(f.ended, 0) AS ended, coalesce(f.complete, 0) AS complete,
    coalesce(f.error, 0) AS error, coalesce(f.cancelled, 0) AS cancelled,
    coalesce(s.open, 0) AS open,
    round(CAST(coalesce(f.ended, 0) / CAST(:minutes AS float8) AS numeric), 2)::float8
        AS per_minute,
    f.ms[1] AS duration_ms_p50, f.ms[2] AS duration_ms_p95, f.ms[3] AS duration_ms_max,
    read.rows_read
FROM tasker_named_tasks nt
JOIN tasker_task_namespaces n USING (task_namespace_id)
LEFT JOIN figures f USING (named_task_id)
LEFT JOIN standing s USING (named_task_id)
CROSS JOIN read
WHERE (f.ended > 0 OR s.open > 0)
  AND (CAST(:namespace AS text) IS NULL OR n.name = :namespace)
  AND (CAST(:name AS text) IS NULL OR nt.name = :name)
ORDER BY coalesce(f.ended, 0) DESC, workflow LIMIT :limit
"""


def task_performance(connection: Connection, window: Window) -> Found:
    """Per workflow: what ended in the window and how long it took; what is open now."""
    return found(connection, TASK_PERFORMANCE, window)
