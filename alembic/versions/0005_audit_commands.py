"""What the audit of commands also says: who asked, how much was left out; and ways to find it."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "tasker_worker_command_audit"


def upgrade() -> None:
    op.add_column(
        TABLE,
        sa.Column(
            "envelope_bytes",
            sa.Integer(),
            nullable=True,
            comment="How long it was, also when it was too long to be kept.",
        ),
    )
    op.add_column(
        TABLE,
        sa.Column(
            "messages",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="How many the row stands for.",
        ),
    )
    op.add_column(
        TABLE,
        sa.Column("source", sa.Text(), nullable=True, comment="Who asked, as the envelope says."),
    )
    op.add_column(
        TABLE, sa.Column("audit_context", postgresql.JSON(astext_type=sa.Text()), nullable=True)
    )
    op.create_index(f"ix_{TABLE}_created_at", TABLE, ["created_at"])


def downgrade() -> None:
    op.drop_index(f"ix_{TABLE}_created_at", table_name=TABLE)
    for column in ("audit_context", "source", "messages", "envelope_bytes"):
        op.drop_column(TABLE, column)
