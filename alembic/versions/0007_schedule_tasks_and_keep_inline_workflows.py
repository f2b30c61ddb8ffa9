"""Tasks that wait for their time belong to nobody until then; workflows may come with a task."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NOBODYS = "completed_at IS NULL AND processing_core_id IS NULL"
ANY_VERSION = "(wanted_version IS NULL OR t.version = wanted_version)"
PUBLISHED_VERSION = "(t.version = wanted_version OR (wanted_version IS NULL AND NOT t.inline))"


def submit_task_finds(former: str, wanted: str) -> None:
    """Which version tasker_submit_task takes; the rest of it stays as it is."""
    text = op.get_bind().scalar(
        sa.text("SELECT pg_get_functiondef(CAST('tasker_submit_task' AS regproc))")
    )
    if former not in str(text):
        raise ValueError("tasker_submit_task is not as migration 0003 made it; restore it first")
    op.get_bind().exec_driver_sql(str(text).replace(former, wanted).replace("%", "%%"))


def upgrade() -> None:
    op.add_column(
        "tasker_named_tasks",
        sa.Column(
            "inline",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="It came with a task, and was not published.",
        ),
    )
    op.create_index(
        "ix_tasker_tasks_unowned",
        "tasker_tasks",
        [sa.literal_column("(- priority)"), "task_id"],
        postgresql_where=sa.text(f"{NOBODYS} AND scheduled_for IS NULL"),
    )
    op.create_index(
        "ix_tasker_tasks_scheduled",
        "tasker_tasks",
        ["scheduled_for", "task_id"],
        postgresql_where=sa.text(f"{NOBODYS} AND scheduled_for IS NOT NULL"),
    )
    submit_task_finds(ANY_VERSION, PUBLISHED_VERSION)


def downgrade() -> None:
    submit_task_finds(PUBLISHED_VERSION, ANY_VERSION)
    op.drop_index("ix_tasker_tasks_scheduled", table_name="tasker_tasks")
    op.drop_index("ix_tasker_tasks_unowned", table_name="tasker_tasks")
    op.drop_column("tasker_named_tasks", "inline")
