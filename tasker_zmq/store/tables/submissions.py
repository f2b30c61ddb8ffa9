"""Tasks that somebody asked for by SQL, inside a transaction of their own."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.store.tables.declarative import Base, BigId

_WAITING = text("refused_at IS NULL")


class Submission(Base):
    """One call of tasker_submit_task: a core makes it a task, or says why not."""

    __tablename__ = "tasker_submissions"
    __table_args__ = (
        Index("ix_tasker_submissions_due", "due_at", "submission_id", postgresql_where=_WAITING),
        Index(
            "uq_tasker_submissions_identity",
            "named_task_id",
            "identity",
            unique=True,
            postgresql_where=text("identity IS NOT NULL AND refused_at IS NULL"),
        ),
        {"comment": "Tasks asked for by tasker_submit_task and not made yet, or refused."},
    )

    submission_id: Mapped[BigId]
    task_id: Mapped[int] = mapped_column(
        BigInteger, comment="What the task will be called; its caller knows it already."
    )
    named_task_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_named_tasks.named_task_id")
    )
    context: Mapped[dict[str, Any]] = mapped_column(JSONB)
    identity: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    initiator: Mapped[str] = mapped_column(Text, comment="The database role that asked.")
    reason: Mapped[str | None]
    due_at: Mapped[datetime] = mapped_column(
        comment="Not to be made a task before; -infinity, whatever clocks say: at once."
    )
    submitted_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    refused_at: Mapped[datetime | None]
    refusal: Mapped[str | None]
