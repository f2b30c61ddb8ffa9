"""Running daemons, and locks for work that only one of them should do."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.store.tables.declarative import Base


class Core(Base):
    """One running daemon; its epoch rises with each start."""

    __tablename__ = "tasker_cores"
    __table_args__ = ({"comment": "Running daemons.", "postgresql_with": {"fillfactor": "50"}},)

    core_id: Mapped[str] = mapped_column(Text, primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    endpoints: Mapped[dict[str, Any]] = mapped_column(JSONB)
    lease_expires_at: Mapped[datetime]
    started_at: Mapped[datetime]
    draining: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class CoordinationLock(Base):
    """An expiring named lock."""

    __tablename__ = "tasker_distributed_processing_locks"
    __table_args__ = ({"comment": "Expiring named locks, one owner each."},)

    lock_name: Mapped[str] = mapped_column(Text, primary_key=True)
    owner_core_id: Mapped[str]
    owner_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    expires_at: Mapped[datetime]
    acquired_at: Mapped[datetime]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)


class ReleasedClaim(Base):
    """A core leaves a task to others for a while; transient."""

    __tablename__ = "tasker_ready_task_coordination"
    __table_args__ = (
        Index("ix_tasker_ready_task_coordination_expires_at", "expires_at"),
        {"comment": "Claims that a core gave up, and until when it claims the task no more."},
    )

    task_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_tasks.task_id", ondelete="CASCADE"), primary_key=True
    )
    core_id: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str]
    asked_by: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
