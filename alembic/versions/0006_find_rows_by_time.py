"""Ways to the rows of an hour, and to the sessions that are open."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TASKS = "tasker_tasks"
SESSIONS = "tasker_worker_registrations"
LEDGER = "tasker_step_execution_batch_received_results"


def upgrade() -> None:
    op.create_index(
        f"ix_{TASKS}_completed_at",
        TASKS,
        ["completed_at"],
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
    op.create_index(
        f"ix_{SESSIONS}_open",
        SESSIONS,
        ["core_id"],
        postgresql_where=sa.text("unregistered_at IS NULL"),
    )
    op.create_index(
        "ix_tasker_received_results_received_at",
        LEDGER,
        ["received_at"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )


def downgrade() -> None:
    op.drop_index("ix_tasker_received_results_received_at", table_name=LEDGER)
    op.drop_index(f"ix_{SESSIONS}_open", table_name=SESSIONS)
    op.drop_index(f"ix_{TASKS}_completed_at", table_name=TASKS)
