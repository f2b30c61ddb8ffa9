"""The ledger: one row per received message, whatever it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from tasker_zmq.domain.ids import CoreId, StepId
from tasker_zmq.store.statements import run


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """A received message and what became of it; `raw_text` is kept to the byte."""

    message_type: str
    verdict: str
    batch_id: int | None = None
    batch_step_id: int | None = None
    worker_id: str | None = None
    session_id: str | None = None
    sequence: int | None = None
    status: str | None = None
    execution_time_ms: float | None = None
    processing_errors: str | None = None  # JSON text
    raw_text: str | None = None  # JSON text
    raw_bytes: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterRow:
    """A step that nobody will retry, and why."""

    step_id: StepId
    reason: str
    fingerprint: str


def record(
    connection: Connection, entries: Sequence[LedgerRow], *, core_id: CoreId, now: datetime
) -> None:
    """Insert the rows, in the order in which the messages came."""
    if not entries:
        return
    run(
        connection,
        "record_ledger",
        {
            "batch_ids": [entry.batch_id for entry in entries],
            "batch_step_ids": [entry.batch_step_id for entry in entries],
            "message_types": [entry.message_type for entry in entries],
            "worker_ids": [entry.worker_id for entry in entries],
            "session_ids": [entry.session_id for entry in entries],
            "sequences": [entry.sequence for entry in entries],
            "statuses": [entry.status for entry in entries],
            "execution_times": [entry.execution_time_ms for entry in entries],
            "verdicts": [entry.verdict for entry in entries],
            "processing_errors": [entry.processing_errors for entry in entries],
            "raw_messages": [entry.raw_text for entry in entries],
            "raw_bytes": [entry.raw_bytes for entry in entries],
            "core_id": core_id,
            "now": now,
        },
    )


def write_dead_letters(
    connection: Connection, letters: Sequence[DeadLetterRow], *, now: datetime
) -> None:
    """Write dead letters for steps that ended in error."""
    if not letters:
        return
    run(
        connection,
        "write_dead_letters",
        {
            "step_ids": [letter.step_id for letter in letters],
            "reasons": [letter.reason for letter in letters],
            "fingerprints": [letter.fingerprint for letter in letters],
            "now": now,
        },
    )
