"""Definitions say where a step's parents stand, so that tasks are created without a search."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "tasker_named_tasks_named_steps"

FILL = """
UPDATE tasker_named_tasks_named_steps d SET parent_positions = ARRAY(
    SELECT p.position FROM tasker_named_tasks_named_steps p
    JOIN tasker_named_steps n USING (named_step_id)
    WHERE p.named_task_id = d.named_task_id AND n.name = ANY (d.depends_on)
    ORDER BY p.position
) WHERE d.depends_on <> '{}'
"""


def upgrade() -> None:
    positions = sa.Column(
        "parent_positions",
        postgresql.ARRAY(sa.Integer()),
        server_default=sa.text("'{}'"),
        nullable=False,
        comment="The parents again, by position.",
    )
    op.add_column(TABLE, positions)
    op.execute(FILL)


def downgrade() -> None:
    op.drop_column(TABLE, "parent_positions")
