"""What cores say to each other by rows: claims given up, locks by epoch; more of the public SQL."""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Tasks in order, the steps of each looked at until there are enough: not those of all.
READY_TASKS = """
CREATE OR REPLACE FUNCTION get_ready_tasks_for_processing(
    at_most integer, at timestamptz DEFAULT now())
RETURNS TABLE (task_id bigint, namespace text, name text, version text, priority integer,
               ready_steps bigint, requested_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT t.task_id, n.name, nt.name, nt.version, t.priority, s.ready_steps, t.requested_at
    FROM (SELECT * FROM tasker_tasks
          WHERE completed_at IS NULL AND state IN ('pending', 'in_progress') AND NOT paused
            AND (scheduled_for IS NULL OR scheduled_for <= at)
          ORDER BY priority DESC, task_id) t
    JOIN tasker_named_tasks nt USING (named_task_id)
    JOIN tasker_task_namespaces n USING (task_namespace_id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS ready_steps FROM tasker_workflow_steps s
        WHERE s.task_id = t.task_id AND s.state = 'pending' AND s.unfinished_parents = 0
          AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= at)) s
    WHERE s.ready_steps > 0
    ORDER BY t.priority DESC, t.task_id
    LIMIT at_most
$$
"""

FORMER_READY_TASKS = """
CREATE OR REPLACE FUNCTION get_ready_tasks_for_processing(
    at_most integer, at timestamptz DEFAULT now())
RETURNS TABLE (task_id bigint, namespace text, name text, version text, priority integer,
               ready_steps bigint, requested_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT t.task_id, n.name, nt.name, nt.version, t.priority, count(*), t.requested_at
    FROM tasker_tasks t
    JOIN tasker_named_tasks nt USING (named_task_id)
    JOIN tasker_task_namespaces n USING (task_namespace_id)
    JOIN tasker_workflow_steps s USING (task_id)
    WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress') AND NOT t.paused
      AND (t.scheduled_for IS NULL OR t.scheduled_for <= at)
      AND s.state = 'pending' AND s.unfinished_parents = 0
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= at)
    GROUP BY t.task_id, n.name, nt.name, nt.version
    ORDER BY t.priority DESC, t.task_id
    LIMIT at_most
$$
"""

VIEWS = {
    "tasker_current_worker_load": """
        SELECT w.worker_id, w.worker_name, count(*) AS sessions, sum(r.credit) AS credit,
            sum(r.current_load) AS current_load,
            sum(greatest(r.credit - r.current_load, 0)) AS room,
            max(r.last_heartbeat_at) AS last_heartbeat_at
        FROM tasker_worker_registrations r JOIN tasker_workers w USING (worker_id)
        WHERE r.unregistered_at IS NULL
        GROUP BY w.worker_id""",
    "worker_capabilities": """
        SELECT w.worker_id, w.worker_name, r.session_id, r.core_id, r.status, r.handlers,
            (w.metadata ->> 'max_concurrent_steps')::integer AS max_concurrent_steps,
            (w.metadata ->> 'step_timeout_ms')::integer AS step_timeout_ms,
            (w.metadata ->> 'supports_retries')::boolean AS supports_retries,
            w.metadata ->> 'language_runtime' AS language_runtime,
            w.metadata ->> 'runtime_version' AS version,
            ARRAY(SELECT DISTINCT n.name FROM tasker_worker_named_tasks k
                  JOIN tasker_named_tasks nt USING (named_task_id)
                  JOIN tasker_task_namespaces n USING (task_namespace_id)
                  WHERE k.worker_id = w.worker_id ORDER BY n.name) AS namespaces,
            r.registered_at
        FROM tasker_workers w LEFT JOIN LATERAL (
            SELECT * FROM tasker_worker_registrations r
            WHERE r.worker_id = w.worker_id ORDER BY r.registration_id DESC LIMIT 1) r ON true""",
    "command_executions": """
        SELECT id AS execution_id, command_id, correlation_id, command_type, direction, core_id,
            worker_name, session_id, task_id, batch_uuid, outcome, execution_time_ms, created_at
        FROM tasker_worker_command_audit""",
}
LOCKS = "tasker_distributed_processing_locks"
RELEASED = "tasker_ready_task_coordination"


def upgrade() -> None:
    op.add_column(
        LOCKS,
        sa.Column("owner_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_table(
        RELEASED,
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("core_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasker_tasks.task_id"],
            name=op.f(f"fk_{RELEASED}_task_id_tasker_tasks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", "core_id", name=op.f(f"pk_{RELEASED}")),
        comment="Claims that a core gave up, and until when it claims the task no more.",
    )
    op.create_index(f"ix_{RELEASED}_expires_at", RELEASED, ["expires_at"])
    op.execute(READY_TASKS)
    for name, body in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {body}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.execute(FORMER_READY_TASKS)
    op.drop_table(RELEASED)
    op.drop_column(LOCKS, "owner_epoch")
