"""Pages with room for what is updated, and rows inside a task that ask for nobody's leave."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# A step is written four times in its life, often with all others of its page in one transaction:
# only with that much room do the new versions stay on the page, and out of the indexes.
FILLFACTORS = {"tasker_workflow_steps": (70, 35), "tasker_tasks": (80, 50)}
# Who, by which column, refers to whom: decision 0017 says why not by a foreign key any more.
REFERENCES = (
    ("tasker_workflow_steps", "task_id", "task_id", "tasker_tasks"),
    ("tasker_workflow_step_edges", "from_step_id", "workflow_step_id", "tasker_workflow_steps"),
    ("tasker_workflow_step_edges", "to_step_id", "workflow_step_id", "tasker_workflow_steps"),
    ("tasker_task_transitions", "task_id", "task_id", "tasker_tasks"),
    (
        "tasker_workflow_step_transitions",
        "workflow_step_id",
        "workflow_step_id",
        "tasker_workflow_steps",
    ),
    (
        "tasker_step_execution_batch_transitions",
        "batch_id",
        "batch_id",
        "tasker_step_execution_batches",
    ),
    ("tasker_step_execution_batch_steps", "batch_id", "batch_id", "tasker_step_execution_batches"),
    (
        "tasker_step_execution_batch_steps",
        "workflow_step_id",
        "workflow_step_id",
        "tasker_workflow_steps",
    ),
)


def upgrade() -> None:
    for table, (_, wanted) in FILLFACTORS.items():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {wanted})")
    for table, column, _, _ in REFERENCES:
        op.drop_constraint(f"fk_{table}_{column}", table)


def downgrade() -> None:
    for table, column, referred, owner in REFERENCES:
        name = f"fk_{table}_{column}"
        op.create_foreign_key(name, table, owner, [column], [referred], ondelete="CASCADE")
    for table, (before, _) in FILLFACTORS.items():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {before})")
