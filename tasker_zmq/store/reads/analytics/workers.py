"""What each worker has done, what it holds, and which workflows it can run."""

from typing import Final

from sqlalchemy import Connection

from tasker_zmq.store.reads.analytics.window import Found, Window, found

TIMED_BATCHES_MAX: Final = 2_000  # whose messages are looked at

_RECENT: Final = """
WITH recent AS MATERIALIZED (
    SELECT b.batch_id, b.registration_id, b.session_id, b.state, b.batch_size, b.completed_steps,
        b.failed_steps, b.deliveries,
        extract(epoch FROM b.updated_at - b.created_at) * 1000 AS ms
    FROM tasker_step_execution_batches b
    WHERE b.batch_uuid >= CAST(:first_uuid AS uuid) AND b.batch_uuid < CAST(:last_uuid AS uuid)
    ORDER BY b.batch_uuid DESC LIMIT :rows_max
),
read AS (SELECT count(*) AS rows_read FROM recent)"""

WORKER_EFFICIENCY: Final = f"""{_RECENT},
named AS MATERIALIZED (
    SELECT recent.*, coalesce(w.worker_name, recent.session_id) AS worker
    FROM recent LEFT JOIN tasker_worker_registrations r USING (registration_id)
    LEFT JOIN tasker_workers w USING (worker_id)
    WHERE CAST(:worker AS text) IS NULL OR coalesce(w.worker_name, recent.session_id) = :worker
),
timed AS (
    SELECT newest.worker, CAST(percentile_cont(ARRAY[0.5, 0.95])
        WITHIN GROUP (ORDER BY m.execution_time_ms) AS float8[]) AS ms
    FROM (SELECT batch_id, worker FROM named ORDER BY batch_id DESC
          LIMIT {TIMED_BATCHES_MAX}) newest
    JOIN tasker_step_execution_batch_received_results m ON m.batch_id = newest.batch_id
        AND m.received_at >= CAST(:since AS timestamptz)
        AND m.verdict = 'applied' AND m.execution_time_ms IS NOT NULL
    GROUP BY newest.worker
)
SELECT n.worker, count(DISTINCT n.session_id) AS sessions, count(*) AS batches,
    sum(n.batch_size) AS steps, sum(n.completed_steps) AS completed,
    sum(n.failed_steps) AS failed,
    coalesce(sum(n.batch_size - n.completed_steps - n.failed_steps)
        FILTER (WHERE n.state NOT IN ('created', 'published', 'in_progress')), 0) AS silent,
    count(*) FILTER (WHERE n.state IN ('created', 'published', 'in_progress')) AS open,
    count(*) FILTER (WHERE n.deliveries > 1) AS sent_again,
    max(t.ms[1]) AS step_ms_p50, max(t.ms[2]) AS step_ms_p95,
    CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY n.ms)
        FILTER (WHERE n.state NOT IN ('created', 'published', 'in_progress')) AS float8)
        AS batch_ms_p50,
    max(read.rows_read) AS rows_read
FROM named n LEFT JOIN timed t USING (worker) CROSS JOIN read
GROUP BY n.worker ORDER BY steps DESC, n.worker LIMIT :limit
"""  # noqa: S608 - made of this module's own words

LOAD_DISTRIBUTION: Final = f"""{_RECENT},
sent AS (
    SELECT session_id, count(*) AS batches, sum(batch_size) AS steps
    FROM recent GROUP BY session_id
)
SELECT w.worker_name AS worker, r.session_id, r.core_id, r.status, r.credit, r.current_load,
    round(CAST(r.current_load AS numeric) / greatest(r.credit, r.current_load, 1), 3)::float8
        AS utilisation,
    coalesce(s.batches, 0) AS batches, coalesce(s.steps, 0) AS steps,
    round(coalesce(CAST(coalesce(s.steps, 0) AS numeric)
        / nullif((SELECT sum(steps) FROM sent), 0), 0), 3)::float8 AS share,
    read.rows_read
FROM tasker_worker_registrations r JOIN tasker_workers w USING (worker_id)
JOIN tasker_cores c ON c.core_id = r.core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
LEFT JOIN sent s USING (session_id) CROSS JOIN read
WHERE r.unregistered_at IS NULL AND (CAST(:worker AS text) IS NULL OR w.worker_name = :worker)
ORDER BY r.current_load DESC, steps DESC, worker LIMIT :limit
"""  # noqa: S608 - made of this module's own words

COMPATIBILITY: Final = """
WITH live AS MATERIALIZED (
    SELECT w.worker_name, w.worker_id, jsonb_array_elements_text(r.handlers) AS handler
    FROM tasker_worker_registrations r JOIN tasker_workers w USING (worker_id)
    JOIN tasker_cores c ON c.core_id = r.core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
    WHERE r.unregistered_at IS NULL
),
wanted AS MATERIALIZED (
    SELECT nt.named_task_id, n.name || '/' || nt.name || '@' || nt.version AS workflow
    FROM tasker_named_tasks nt JOIN tasker_task_namespaces n USING (task_namespace_id)
    WHERE (CAST(:namespace AS text) IS NULL OR n.name = :namespace)
      AND (CAST(:name AS text) IS NULL OR nt.name = :name)
    ORDER BY nt.named_task_id DESC LIMIT :rows_max
),
handlers AS MATERIALIZED (
    SELECT DISTINCT wanted.named_task_id, s.handler_class
    FROM wanted JOIN tasker_named_tasks_named_steps s USING (named_task_id)
),
counted AS (SELECT named_task_id, count(*) AS handlers FROM handlers GROUP BY named_task_id),
able AS (
    SELECT h.named_task_id, l.worker_name, count(DISTINCT h.handler_class) AS known
    FROM handlers h JOIN live l ON l.handler = h.handler_class
    GROUP BY h.named_task_id, l.worker_name
),
missing AS (
    SELECT h.named_task_id, array_agg(h.handler_class ORDER BY h.handler_class) AS names
    FROM handlers h WHERE h.handler_class NOT IN (SELECT handler FROM live)
    GROUP BY h.named_task_id
)
SELECT wanted.workflow, coalesce(c.handlers, 0) AS handlers,
    coalesce(m.names, '{}') AS missing,
    ARRAY(SELECT a.worker_name FROM able a WHERE a.named_task_id = wanted.named_task_id
          AND a.known = c.handlers ORDER BY 1) AS whole,
    ARRAY(SELECT a.worker_name FROM able a WHERE a.named_task_id = wanted.named_task_id
          AND a.known < c.handlers ORDER BY 1) AS in_part,
    ARRAY(SELECT w.worker_name FROM tasker_worker_named_tasks k
          JOIN tasker_workers w USING (worker_id)
          WHERE k.named_task_id = wanted.named_task_id ORDER BY 1) AS declared_by,
    (SELECT count(*) FROM wanted) AS rows_read
FROM wanted LEFT JOIN counted c USING (named_task_id) LEFT JOIN missing m USING (named_task_id)
ORDER BY (m.names IS NOT NULL) DESC, wanted.workflow LIMIT :limit
"""


def worker_efficiency(connection: Connection, window: Window) -> Found:
    """Per worker: the batches that were made in the window, and how long its steps took."""
    return found(connection, WORKER_EFFICIENCY, window)


def load_distribution(connection: Connection, window: Window) -> Found:
    """Per connected session: what it holds, and its share of the window's steps."""
    return found(connection, LOAD_DISTRIBUTION, window)


def compatibility(connection: Connection, window: Window) -> Found:
    """Per workflow: which connected workers have all its handlers, or some of them."""
    return found(connection, COMPATIBILITY, window)
