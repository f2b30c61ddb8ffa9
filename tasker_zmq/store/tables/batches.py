"""What was sent to whom and what came back: the seeds' batch tables, the ledger, discrepancies."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.states import OPEN_BATCH_STATES, BatchState
from tasker_zmq.store.tables.declarative import Base, BigId, one_of

_UNSETTLED = text(
    "reconciliation_status = 'pending' OR state IN ({})".format(
        ", ".join(f"'{state}'" for state in OPEN_BATCH_STATES)
    )
)


class Batch(Base):
    """Steps sent together to one worker session."""

    __tablename__ = "tasker_step_execution_batches"
    __table_args__ = (
        UniqueConstraint("batch_uuid"),
        Index(
            "ix_tasker_step_execution_batches_unsettled",
            "core_id",
            "batch_id",
            postgresql_where=_UNSETTLED,
        ),
        Index(
            "ix_tasker_step_execution_batches_task_id",
            "task_id",
            postgresql_where=text("task_id IS NOT NULL"),
        ),
        one_of("state", BatchState),
        one_of("reconciliation_status", ReconciliationStatus),
        {"comment": "Batches of steps.", "postgresql_with": {"fillfactor": "70"}},
    )

    batch_id: Mapped[BigId]
    batch_uuid: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), comment="UUIDv7; its name on the wire."
    )
    task_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="Null when steps of several tasks share it."
    )
    handler_class: Mapped[str | None] = mapped_column(Text, comment="Null when mixed.")
    registration_id: Mapped[int | None] = mapped_column(BigInteger)
    session_id: Mapped[str]
    core_id: Mapped[str]
    state: Mapped[str]
    initiated_by: Mapped[str]
    batch_size: Mapped[int] = mapped_column(Integer)
    timeout_seconds: Mapped[int] = mapped_column(Integer)
    deliveries: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    publication: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    partial_results_received: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    completed_steps: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failed_steps: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    final_completion_received: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    reconciliation_status: Mapped[str] = mapped_column(Text, server_default="pending")
    transitions: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    published_at: Mapped[datetime | None]


class BatchStep(Base):
    """One step's place in one batch; a retried step has a row in each batch that carried it.

    No foreign keys: a row is made of what the same statement has just updated (decision 0017).
    """

    __tablename__ = "tasker_step_execution_batch_steps"
    __table_args__ = (
        UniqueConstraint("batch_id", "workflow_step_id"),
        Index("ix_tasker_step_execution_batch_steps_workflow_step_id", "workflow_step_id"),
        {"comment": "Which steps a batch carried."},
    )

    id: Mapped[BigId]
    batch_id: Mapped[int] = mapped_column(BigInteger)
    workflow_step_id: Mapped[int] = mapped_column(BigInteger)
    sequence_order: Mapped[int] = mapped_column(Integer, comment="Counts from 1.")
    attempt: Mapped[int] = mapped_column(Integer, comment="Counts from 0, as on the wire.")
    expected_handler_class: Mapped[str]
    confirmed_at: Mapped[datetime | None] = mapped_column(
        comment="When a step that must not run twice was allowed to begin."
    )
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime]


class ReceivedResult(Base):
    """The ledger: every message as it arrived, understood or not; never updated, never deleted."""

    __tablename__ = "tasker_step_execution_batch_received_results"
    __table_args__ = (
        PrimaryKeyConstraint("id", "received_at"),
        Index(
            "ix_tasker_received_results_batch_id",
            "batch_id",
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        # Rows come in the order of time and stay: a range of blocks says enough.
        Index(
            "ix_tasker_received_results_received_at",
            "received_at",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        ),
        {
            "comment": "The ledger of received messages; weekly partitions.",
            "postgresql_partition_by": "RANGE (received_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    received_at: Mapped[datetime]
    batch_id: Mapped[int | None] = mapped_column(BigInteger)
    batch_step_id: Mapped[int | None] = mapped_column(BigInteger)
    message_type: Mapped[str]
    worker_id: Mapped[str | None]
    session_id: Mapped[str | None]
    core_id: Mapped[str]
    sequence_number: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str | None]
    execution_time_ms: Mapped[float | None] = mapped_column(Double)
    verdict: Mapped[str]
    processed_at: Mapped[datetime]
    processing_errors: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    raw_message_json: Mapped[Any | None] = mapped_column(JSON, comment="Verbatim.")
    raw_bytes: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="When it is not JSON; first 4 kB."
    )


class Discrepancy(Base):
    """One difference between a batch's two accounts."""

    __tablename__ = "tasker_step_execution_batch_discrepancies"
    __table_args__ = (
        Index(
            "uq_tasker_step_execution_batch_discrepancies_once",
            "batch_id",
            "kind",
            text("coalesce(workflow_step_id, 0)"),
            unique=True,
        ),
        {"comment": "Differences found by the reconciler."},
    )

    id: Mapped[BigId]
    batch_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("tasker_step_execution_batches.batch_id", ondelete="CASCADE")
    )
    workflow_step_id: Mapped[int | None] = mapped_column(BigInteger)
    kind: Mapped[str]
    partial_says: Mapped[str | None]
    completion_says: Mapped[str | None]
    found_at: Mapped[datetime]
