"""Breakers: workers that get no steps of a handler with which they failed again and again."""

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BREAKERS = "tasker_worker_breakers"


def upgrade() -> None:
    op.create_table(
        BREAKERS,
        sa.Column("worker_id", sa.BigInteger(), nullable=False),
        sa.Column("handler_class", sa.Text(), nullable=False),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="An open one whose next try has come is half open.",
        ),
        sa.Column(
            "failures", sa.Integer(), nullable=False, comment="In a row, until it last changed."
        ),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cool_off_seconds", sa.Float(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("core_id", sa.Text(), nullable=False, comment="The core that changed it last."),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'closed')", name=op.f(f"ck_{BREAKERS}_state")),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["tasker_workers.worker_id"],
            name=op.f(f"fk_{BREAKERS}_worker_id_tasker_workers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("worker_id", "handler_class", name=op.f(f"pk_{BREAKERS}")),
        comment="Breakers that have opened, by worker and handler.",
    )
    op.create_index(
        f"ix_{BREAKERS}_open",
        BREAKERS,
        ["worker_id"],
        postgresql_where=sa.text("state = 'open'"),
    )


def downgrade() -> None:
    op.drop_table(BREAKERS)
