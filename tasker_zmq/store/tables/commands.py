"""What was asked of cores and told by them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.store.tables.declarative import Base


class CommandAudit(Base):
    """Every command both ways; weekly partitions like the ledger."""

    __tablename__ = "tasker_worker_command_audit"
    __table_args__ = (
        PrimaryKeyConstraint("id", "created_at"),
        Index("ix_tasker_worker_command_audit_correlation_id", "correlation_id"),
        Index("ix_tasker_worker_command_audit_created_at", "created_at"),
        {"comment": "Commands sent and received.", "postgresql_partition_by": "RANGE (created_at)"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    created_at: Mapped[datetime]
    core_id: Mapped[str]
    worker_name: Mapped[str | None]
    session_id: Mapped[str | None]
    command_type: Mapped[str]
    direction: Mapped[str] = mapped_column(Text, comment="sent or received")
    command_id: Mapped[str]
    correlation_id: Mapped[str | None]
    batch_uuid: Mapped[str | None]
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    outcome: Mapped[str | None]
    execution_time_ms: Mapped[float | None] = mapped_column(Double)
    envelope: Mapped[Any | None] = mapped_column(JSON)
    envelope_bytes: Mapped[int | None] = mapped_column(
        Integer, comment="How long it was, also when it was too long to be kept."
    )
    messages: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="How many the row stands for."
    )
    source: Mapped[str | None] = mapped_column(Text, comment="Who asked, as the envelope says.")
    audit_context: Mapped[Any | None] = mapped_column(JSON)
