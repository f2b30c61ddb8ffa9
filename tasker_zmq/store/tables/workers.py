"""Who can run what, and who is connected."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.domain.breaker import BreakerState
from tasker_zmq.store.tables.declarative import Base, BigId, one_of


class RegistrationStatus(StrEnum):
    """How a session is doing."""

    REGISTERED = "registered"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DISCONNECTED = "disconnected"


class Worker(Base):
    """A process that runs handlers, known by a lasting name."""

    __tablename__ = "tasker_workers"
    __table_args__ = (
        UniqueConstraint("worker_name"),
        one_of("mode", WorkerMode),
        Index("ix_tasker_workers_mode", "worker_id", postgresql_where=text("mode <> 'enabled'")),
        {"comment": "Workers by their lasting names."},
    )

    worker_id: Mapped[BigId]
    worker_name: Mapped[str]
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'")
    )
    declared_tasks: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        comment="The named tasks it knows, as it said them; a version may be *.",
    )
    exclusive: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="It is sent steps of the tasks it declared, and of no others.",
    )
    mode: Mapped[str] = mapped_column(Text, server_default=text("'enabled'"))
    mode_by: Mapped[str | None] = mapped_column(Text, comment="Who gave it this mode.")
    mode_why: Mapped[str | None]
    mode_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class WorkerPin(Base):
    """Steps that people have given to one worker, and to nobody else."""

    __tablename__ = "tasker_worker_pins"
    __table_args__ = (
        CheckConstraint("num_nonnulls(task_name, handler_class, task_id) = 1", name="one_target"),
        Index("ix_tasker_worker_pins_worker_id", "worker_id"),
        {"comment": "Steps that people have given to one worker, and to nobody else."},
    )

    pin_id: Mapped[BigId]
    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_workers.worker_id", ondelete="CASCADE")
    )
    namespace: Mapped[str | None]
    task_name: Mapped[str | None]
    version: Mapped[str | None] = mapped_column(Text, comment="Null: any.")
    handler_class: Mapped[str | None]
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    decided_by: Mapped[str]
    why: Mapped[str]
    created_at: Mapped[datetime]


class WorkerBreaker(Base):
    """That a worker gets no steps of a handler for a while, or that it once was so."""

    __tablename__ = "tasker_worker_breakers"
    __table_args__ = (
        one_of("state", (BreakerState.OPEN, BreakerState.CLOSED)),
        Index(
            "ix_tasker_worker_breakers_open", "worker_id", postgresql_where=text("state = 'open'")
        ),
        {"comment": "Breakers that have opened, by worker and handler."},
    )

    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_workers.worker_id", ondelete="CASCADE"), primary_key=True
    )
    handler_class: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(
        Text, comment="An open one whose next try has come is half open."
    )
    failures: Mapped[int] = mapped_column(Integer, comment="In a row, until it last changed.")
    opened_at: Mapped[datetime]
    next_try_at: Mapped[datetime]
    cool_off_seconds: Mapped[float] = mapped_column(Float)
    last_error: Mapped[str]
    core_id: Mapped[str] = mapped_column(Text, comment="The core that changed it last.")
    closed_at: Mapped[datetime | None]


class SupportedTask(Base):
    """This worker can run that named task."""

    __tablename__ = "tasker_worker_named_tasks"
    __table_args__ = (
        UniqueConstraint("worker_id", "named_task_id"),
        Index("ix_tasker_worker_named_tasks_named_task_id", "named_task_id"),
        {"comment": "Which worker knows which task."},
    )

    id: Mapped[BigId]
    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_workers.worker_id", ondelete="CASCADE")
    )
    named_task_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_named_tasks.named_task_id", ondelete="CASCADE")
    )
    configuration: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(Integer, server_default=text("100"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Registration(Base):
    """One connection life of a worker: small and hot."""

    __tablename__ = "tasker_worker_registrations"
    __table_args__ = (
        UniqueConstraint("session_id"),
        Index("ix_tasker_worker_registrations_worker_id", "worker_id"),
        Index(
            "ix_tasker_worker_registrations_open",
            "core_id",
            postgresql_where=text("unregistered_at IS NULL"),
        ),
        one_of("status", RegistrationStatus),
        {"comment": "Sessions of workers.", "postgresql_with": {"fillfactor": "50"}},
    )

    registration_id: Mapped[BigId]
    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_workers.worker_id", ondelete="CASCADE")
    )
    session_id: Mapped[str]
    core_id: Mapped[str]
    status: Mapped[str]
    connection_type: Mapped[str]
    connection_details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    protocol_version: Mapped[str]
    handlers: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    credit: Mapped[int] = mapped_column(Integer)
    current_load: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_heartbeat_at: Mapped[datetime]
    registered_at: Mapped[datetime]
    unregistered_at: Mapped[datetime | None]


class Reachability(Base):
    """Whether a core can reach a worker by a transport."""

    __tablename__ = "tasker_worker_transport_availability"
    __table_args__ = (
        UniqueConstraint("worker_id", "core_id", "transport_type"),
        Index("ix_tasker_worker_transport_availability_core_id", "core_id"),
        {
            "comment": "Which core reaches which worker.",
            "postgresql_with": {"fillfactor": "50"},
        },
    )

    id: Mapped[BigId]
    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_workers.worker_id", ondelete="CASCADE")
    )
    core_id: Mapped[str]
    transport_type: Mapped[str]
    connection_details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    is_reachable: Mapped[bool] = mapped_column(Boolean)
    last_verified_at: Mapped[datetime]
