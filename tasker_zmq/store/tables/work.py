"""What is being run: tasks, their steps and the edges between them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.store.tables.declarative import Base, BigId, one_of

# The hot statements never speak of completed_at, so none of them walks this index by mistake.
_OPEN = text("completed_at IS NULL")
_NOBODYS = "completed_at IS NULL AND processing_core_id IS NULL"


class Task(Base):
    """One run of a named task with its context."""

    __tablename__ = "tasker_tasks"
    __table_args__ = (
        Index(
            "uq_tasker_tasks_identity",
            "named_task_id",
            "identity",
            unique=True,
            postgresql_where=text("identity IS NOT NULL"),
        ),
        Index(
            "ix_tasker_tasks_open",
            "processing_core_id",
            text("(- priority)"),
            "task_id",
            postgresql_where=_OPEN,
        ),
        Index(
            "ix_tasker_tasks_completed_at",
            "completed_at",
            postgresql_where=text("completed_at IS NOT NULL"),
        ),
        Index(
            "ix_tasker_tasks_unowned",
            text("(- priority)"),
            "task_id",
            postgresql_where=text(f"{_NOBODYS} AND scheduled_for IS NULL"),
        ),
        Index(
            "ix_tasker_tasks_scheduled",
            "scheduled_for",
            "task_id",
            postgresql_where=text(f"{_NOBODYS} AND scheduled_for IS NOT NULL"),
        ),
        Index(
            "ix_tasker_tasks_parent_task_id",
            "parent_task_id",
            postgresql_where=text("parent_task_id IS NOT NULL"),
        ),
        one_of("state", TaskState),
        {"comment": "Runs of named tasks.", "postgresql_with": {"fillfactor": "50"}},
    )

    task_id: Mapped[BigId]
    named_task_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_named_tasks.named_task_id")
    )
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    step_count: Mapped[int] = mapped_column(Integer)
    unfinished_leaves: Mapped[int] = mapped_column(
        Integer, comment="Steps without children that are not complete: at 0 the task is complete."
    )
    failed_steps: Mapped[int] = mapped_column(
        Integer,
        server_default=text("0"),
        comment="Steps that ended in error or were cancelled, and still stand so.",
    )
    transitions: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    context: Mapped[dict[str, Any]] = mapped_column(JSONB)
    identity: Mapped[str | None] = mapped_column(
        Text, comment="The same identity of one named task is one task."
    )
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    initiator: Mapped[str | None]
    source_system: Mapped[str | None]
    reason: Mapped[str | None]
    correlation_id: Mapped[str | None]
    parent_task_id: Mapped[int | None] = mapped_column(BigInteger)
    processing_core_id: Mapped[str | None] = mapped_column(
        Text, comment="The core that dispatches this task's steps while its lease lives."
    )
    claimed_at: Mapped[datetime | None]
    scheduled_for: Mapped[datetime | None]
    requested_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class WorkflowStep(Base):
    """One node of one task: narrow and hot, no index on a column that changes in a normal life."""

    __tablename__ = "tasker_workflow_steps"
    __table_args__ = (
        Index("ix_tasker_workflow_steps_task_id", "task_id"),
        Index(
            "ix_tasker_workflow_steps_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at IS NOT NULL"),
        ),
        one_of("state", StepState),
        {"comment": "Steps of tasks.", "postgresql_with": {"fillfactor": "35"}},
    )

    workflow_step_id: Mapped[BigId]
    task_id: Mapped[int] = mapped_column(BigInteger)
    named_step_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    state: Mapped[str]
    is_leaf: Mapped[bool] = mapped_column(Boolean)
    retryable: Mapped[bool] = mapped_column(Boolean)
    retry_limit: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    losses: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    unfinished_parents: Mapped[int] = mapped_column(
        Integer, comment="A cache: the checker recomputes it from edges and states."
    )
    transitions: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    current_batch_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="Only results of this batch count."
    )
    unheard: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="Its current batch ended without a word about it: a late success is welcome.",
    )
    next_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    worker_name: Mapped[str | None]
    results: Mapped[Any | None] = mapped_column(JSON)
    error: Mapped[Any | None] = mapped_column(JSON)


class StepEdge(Base):
    """`to_step` waits for `from_step`."""

    __tablename__ = "tasker_workflow_step_edges"
    __table_args__ = (
        Index("ix_tasker_workflow_step_edges_to_step_id", "to_step_id"),
        {"comment": "Who waits for whom."},
    )

    from_step_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    to_step_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
