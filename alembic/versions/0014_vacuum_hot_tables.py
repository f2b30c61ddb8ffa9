"""Tables whose rows are updated all the time are vacuumed by how many died, not by which part."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# With PostgreSQL's own scale factor, a fifth of all steps ever run would have to be dead first.
LARGE = (
    "tasker_tasks",
    "tasker_workflow_steps",
    "tasker_step_execution_batches",
    "tasker_step_execution_batch_transitions",
)
# A few rows, updated every few seconds, read by every tick.
SMALL = (
    "tasker_cores",
    "tasker_worker_registrations",
    "tasker_worker_transport_availability",
    "tasker_distributed_processing_locks",
)
ROWS = {**dict.fromkeys(LARGE, 1_000), **dict.fromkeys(SMALL, 100)}
NAMES = (
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_cost_limit",
)


def upgrade() -> None:
    for table, rows in ROWS.items():
        settings = zip(NAMES, (0, rows, 2_000), strict=True)
        told = ", ".join(f"{name} = {value}" for name, value in settings)
        op.execute(f"ALTER TABLE {table} SET ({told})")


def downgrade() -> None:
    for table in ROWS:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(NAMES)})")
