"""Who may run a named task is found from what narrows it down first, by a plan that is kept."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Sessions that have a handler of the task, and those of workers that declared it: few of many,
# before anything else is looked up of them. In plpgsql, for a connection keeps its plans: to plan
# it took as long as to run it. That a worker cannot be reached counts while it is news.
CANDIDATE_WORKERS = """
CREATE OR REPLACE FUNCTION tasker_candidate_workers(
    for_named_task_id bigint, from_core_id text, at timestamptz DEFAULT now()
) RETURNS TABLE (worker_id bigint, worker_name text, session_id text, status text,
                 priority integer, current_load integer, credit integer, configuration jsonb)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    wanted text[] := ARRAY(
        SELECT s.handler_class FROM tasker_named_tasks_named_steps s
        WHERE s.named_task_id = for_named_task_id);
BEGIN
    RETURN QUERY
    SELECT w.worker_id, w.worker_name, r.session_id, r.status, coalesce(a.priority, 100),
        r.current_load, r.credit, coalesce(a.configuration, '{}')
    FROM (
        SELECT r.*, false AS by_declaration
        FROM tasker_worker_registrations r
        WHERE r.unregistered_at IS NULL AND r.core_id = from_core_id AND r.handlers ?| wanted
        UNION ALL
        SELECT r.*, true
        FROM tasker_worker_named_tasks k JOIN tasker_worker_registrations r USING (worker_id)
        WHERE k.named_task_id = for_named_task_id
          AND r.unregistered_at IS NULL AND r.core_id = from_core_id
          AND (r.handlers = '[]' OR r.handlers ?| wanted)
    ) r
    JOIN tasker_workers w ON w.worker_id = r.worker_id AND w.exclusive = r.by_declaration
    LEFT JOIN tasker_worker_named_tasks a
        ON a.worker_id = r.worker_id AND a.named_task_id = for_named_task_id
    WHERE r.status IN ('registered', 'healthy') AND w.mode = 'enabled'
      AND r.last_heartbeat_at > at - interval '2 minutes'
      AND r.current_load < r.credit
      AND NOT EXISTS (
          SELECT 1 FROM tasker_worker_transport_availability t
          WHERE t.worker_id = r.worker_id AND t.core_id = from_core_id
            AND t.transport_type = r.connection_type AND NOT t.is_reachable
            AND t.last_verified_at > at - interval '5 minutes')
    ORDER BY 5 DESC, r.current_load::float / greatest(r.credit, 1), r.last_heartbeat_at DESC,
        r.registration_id;
END
$$
"""

FORMER_CANDIDATE_WORKERS = """
CREATE OR REPLACE FUNCTION tasker_candidate_workers(
    for_named_task_id bigint, from_core_id text, at timestamptz DEFAULT now()
) RETURNS TABLE (worker_id bigint, worker_name text, session_id text, status text,
                 priority integer, current_load integer, credit integer, configuration jsonb)
LANGUAGE sql STABLE AS $$
    WITH handlers AS MATERIALIZED (
        SELECT array_agg(DISTINCT s.handler_class) AS wanted
        FROM tasker_named_tasks_named_steps s WHERE s.named_task_id = for_named_task_id
    )
    SELECT w.worker_id, w.worker_name, r.session_id, r.status, coalesce(a.priority, 100),
        r.current_load, r.credit, coalesce(a.configuration, '{}')
    FROM tasker_worker_registrations r
    JOIN tasker_workers w USING (worker_id)
    CROSS JOIN handlers h
    LEFT JOIN tasker_worker_named_tasks a
        ON a.worker_id = w.worker_id AND a.named_task_id = for_named_task_id
    LEFT JOIN tasker_worker_transport_availability t
        ON t.worker_id = w.worker_id AND t.core_id = from_core_id
    WHERE r.unregistered_at IS NULL AND r.core_id = from_core_id
      AND r.status IN ('registered', 'healthy') AND w.mode = 'enabled'
      AND r.last_heartbeat_at > at - interval '2 minutes'
      AND coalesce(t.is_reachable, true)
      AND CASE WHEN w.exclusive THEN a.id IS NOT NULL
               ELSE r.handlers ?| h.wanted END
      AND r.current_load < r.credit
    ORDER BY 5 DESC, r.current_load::float / greatest(r.credit, 1), r.last_heartbeat_at DESC,
        r.registration_id
$$
"""


def upgrade() -> None:
    op.execute(CANDIDATE_WORKERS)


def downgrade() -> None:
    op.execute(FORMER_CANDIDATE_WORKERS)
