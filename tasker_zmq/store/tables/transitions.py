"""Every change of state, append-only, counted by sort_key: a lost race violates a constraint.

No foreign keys: each row is made of what the same statement has just updated (decision 0017).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Index, Integer, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.store.tables.declarative import Base


class TaskTransition(Base):
    """One recorded change of a task's state."""

    __tablename__ = "tasker_task_transitions"
    __table_args__ = ({"comment": "Changes of task states."},)

    task_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sort_key: Mapped[int] = mapped_column(Integer, primary_key=True)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    event_name: Mapped[str]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime]


class StepTransition(Base):
    """One recorded change of a step's state."""

    __tablename__ = "tasker_workflow_step_transitions"
    __table_args__ = ({"comment": "Changes of step states."},)

    workflow_step_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sort_key: Mapped[int] = mapped_column(Integer, primary_key=True)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    event_name: Mapped[str]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime]


class BatchTransition(Base):
    """One recorded change of a batch's state; exactly one of a batch's rows is the most recent."""

    __tablename__ = "tasker_step_execution_batch_transitions"
    __table_args__ = (
        Index(
            "uq_tasker_step_execution_batch_transitions_most_recent",
            "batch_id",
            unique=True,
            postgresql_where=text("most_recent"),
        ),
        {"comment": "Changes of batch states."},
    )

    batch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sort_key: Mapped[int] = mapped_column(Integer, primary_key=True)
    most_recent: Mapped[bool] = mapped_column(Boolean)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    event_name: Mapped[str]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime]
