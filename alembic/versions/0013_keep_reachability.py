"""Which core reaches which worker is written often, and goes away with the core."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLE = "tasker_worker_transport_availability"


def upgrade() -> None:
    op.execute(f"ALTER TABLE {TABLE} SET (fillfactor = 50)")
    op.create_index(f"ix_{TABLE}_core_id", TABLE, ["core_id"])


def downgrade() -> None:
    op.drop_index(f"ix_{TABLE}_core_id", TABLE)
    op.execute(f"ALTER TABLE {TABLE} RESET (fillfactor)")
