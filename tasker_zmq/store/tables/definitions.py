"""What can be run: namespaces, named tasks and their steps."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.domain.template import BackoffKind
from tasker_zmq.store.tables.declarative import Base, BigId, one_of


class Namespace(Base):
    """A family of named tasks."""

    __tablename__ = "tasker_task_namespaces"
    __table_args__ = (UniqueConstraint("name"), {"comment": "Families of named tasks."})

    task_namespace_id: Mapped[BigId]
    name: Mapped[str]
    created_at: Mapped[datetime]


class NamedTask(Base):
    """A workflow's definition; tasks are pinned to its row for ever."""

    __tablename__ = "tasker_named_tasks"
    __table_args__ = (
        UniqueConstraint("task_namespace_id", "name", "version"),
        {"comment": "Workflow definitions: namespace, name, version."},
    )

    named_task_id: Mapped[BigId]
    task_namespace_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_task_namespaces.task_namespace_id")
    )
    name: Mapped[str]
    version: Mapped[str]
    description: Mapped[str] = mapped_column(Text, server_default="")
    template: Mapped[dict[str, Any]] = mapped_column(JSON, comment="As its author gave it.")
    template_digest: Mapped[str] = mapped_column(
        Text, comment="SHA-256 of the resolved definition: says whether two are the same."
    )
    input_schema: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    step_count: Mapped[int] = mapped_column(Integer)
    leaf_count: Mapped[int] = mapped_column(Integer, comment="Steps for which no other step waits.")
    inline: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="It came with a task, and was not published.",
    )
    created_at: Mapped[datetime]


class NamedStep(Base):
    """A step's name, shared by the named tasks that use it."""

    __tablename__ = "tasker_named_steps"
    __table_args__ = (UniqueConstraint("name"), {"comment": "Names of steps."})

    named_step_id: Mapped[BigId]
    name: Mapped[str]
    created_at: Mapped[datetime]


class NamedTaskStep(Base):
    """This named task has that named step, with its handler and its defaults."""

    __tablename__ = "tasker_named_tasks_named_steps"
    __table_args__ = (
        UniqueConstraint("named_task_id", "position"),
        one_of("backoff", BackoffKind),
        {"comment": "The steps of each named task."},
    )

    named_task_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("tasker_named_tasks.named_task_id", ondelete="CASCADE"),
        primary_key=True,
    )
    named_step_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_named_steps.named_step_id"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, comment="Order of creation: parents first.")
    handler_class: Mapped[str]
    handler_config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    depends_on: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="Names of the parents.")
    parent_positions: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), server_default=text("'{}'"), comment="The parents again, by position."
    )
    is_leaf: Mapped[bool] = mapped_column(Boolean)
    retryable: Mapped[bool] = mapped_column(Boolean)
    retry_limit: Mapped[int] = mapped_column(Integer, comment="Retries after the first try.")
    backoff: Mapped[str]
    backoff_base_ms: Mapped[int] = mapped_column(Integer)
    backoff_ceiling_ms: Mapped[int] = mapped_column(Integer)
    timeout_seconds: Mapped[float] = mapped_column(Double)
    confirm_start: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
