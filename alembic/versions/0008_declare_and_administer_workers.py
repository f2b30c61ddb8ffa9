"""What workers declare, what people decide about them, and who may run a named task."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (
    sa.Column(
        "declared_tasks",
        postgresql.JSONB(),
        server_default=sa.text("'[]'"),
        nullable=False,
        comment="The named tasks it knows, as it said them; a version may be *.",
    ),
    sa.Column(
        "exclusive",
        sa.Boolean(),
        server_default=sa.text("false"),
        nullable=False,
        comment="It is sent steps of the tasks it declared, and of no others.",
    ),
    sa.Column("mode", sa.Text(), server_default=sa.text("'enabled'"), nullable=False),
    sa.Column("mode_by", sa.Text(), nullable=True, comment="Who gave it this mode."),
    sa.Column("mode_why", sa.Text(), nullable=True),
    sa.Column("mode_at", sa.DateTime(timezone=True), nullable=True),
)

# As dispatch chooses from memory, said from rows: for people, for other programs, for comparison.
CANDIDATE_WORKERS = """
CREATE FUNCTION tasker_candidate_workers(
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
    for column in COLUMNS:
        op.add_column("tasker_workers", column)
    op.create_check_constraint(
        op.f("ck_tasker_workers_mode"),
        "tasker_workers",
        "mode IN ('enabled', 'draining', 'disabled')",
    )
    op.create_index(
        "ix_tasker_workers_mode",
        "tasker_workers",
        ["worker_id"],
        postgresql_where=sa.text("mode <> 'enabled'"),
    )
    op.create_index(
        "ix_tasker_worker_named_tasks_named_task_id",
        "tasker_worker_named_tasks",
        ["named_task_id"],
    )
    op.create_table(
        "tasker_worker_pins",
        sa.Column("pin_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("worker_id", sa.BigInteger(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=True),
        sa.Column("task_name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True, comment="Null: any."),
        sa.Column("handler_class", sa.Text(), nullable=True),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["tasker_workers.worker_id"],
            name=op.f("fk_tasker_worker_pins_worker_id_tasker_workers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("pin_id", name=op.f("pk_tasker_worker_pins")),
        sa.CheckConstraint(
            "num_nonnulls(task_name, handler_class, task_id) = 1",
            name=op.f("ck_tasker_worker_pins_one_target"),
        ),
        comment="Steps that people have given to one worker, and to nobody else.",
    )
    op.create_index("ix_tasker_worker_pins_worker_id", "tasker_worker_pins", ["worker_id"])
    op.execute(CANDIDATE_WORKERS)


def downgrade() -> None:
    op.execute("DROP FUNCTION tasker_candidate_workers(bigint, text, timestamptz)")
    op.drop_table("tasker_worker_pins")
    op.drop_index("ix_tasker_worker_named_tasks_named_task_id", "tasker_worker_named_tasks")
    op.drop_index("ix_tasker_workers_mode", "tasker_workers")
    op.drop_constraint(op.f("ck_tasker_workers_mode"), "tasker_workers")
    for column in reversed(COLUMNS):
        op.drop_column("tasker_workers", column.name)
