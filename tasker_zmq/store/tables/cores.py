"""Running daemons, and locks for work that only one of them should do."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Text, text
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
    expires_at: Mapped[datetime]
    acquired_at: Mapped[datetime]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
