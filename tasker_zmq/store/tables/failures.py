"""Steps and messages that nobody will try again by himself."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, Text, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.domain.results import DeadLetterReason
from tasker_zmq.store.tables.declarative import Base, BigId, one_of


class DeadLetterStatus(StrEnum):
    """What people did with it."""

    OPEN = "open"
    REQUEUED = "requeued"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


class DeadLetter(Base):
    """A step that nobody will retry, with the reason and what it looked like then."""

    __tablename__ = "tasker_dead_letters"
    __table_args__ = (
        Index(
            "ix_tasker_dead_letters_open",
            "fingerprint",
            "dead_letter_id",
            postgresql_where=text("status = 'open'"),
        ),
        Index("ix_tasker_dead_letters_workflow_step_id", "workflow_step_id"),
        one_of("reason", DeadLetterReason),
        one_of("status", DeadLetterStatus),
        {"comment": "Steps that nobody will retry."},
    )

    dead_letter_id: Mapped[BigId]
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    workflow_step_id: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(Text, comment="Equal for errors that look alike.")
    snapshot: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(Text, server_default="open")
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
