"""The ledger: one row per received message, whatever it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from tasker_zmq.domain.ids import CoreId, StepId
from tasker_zmq.store.batches import BatchAccount, BatchArrow
from tasker_zmq.store.statements import run


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a tick received: ledger rows in the order of arrival, and what they add to batches."""

    entries: Sequence[LedgerRow] = ()
    accounts: Sequence[BatchAccount] = ()
    arrows: Sequence[BatchArrow] = ()
    core_id: CoreId | None = None

    def values(self) -> dict[str, Any]:
        """Parameters of apply_results."""
        return {
            **_entries(self.entries),
            **_accounts(self.accounts),
            **_arrows(self.arrows),
            "core_id": self.core_id,
        }


NOTHING_RECEIVED: Final = Recording()


def _entries(entries: Sequence[LedgerRow]) -> dict[str, list[Any]]:
    return {
        "entry_batch_ids": [entry.batch_id for entry in entries],
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
    }


def _accounts(accounts: Sequence[BatchAccount]) -> dict[str, list[Any]]:
    return {
        "batch_ids": [each.batch_id for each in accounts],
        "partials": [each.partials for each in accounts],
        "completed": [each.completed for each in accounts],
        "failed": [each.failed for each in accounts],
        "completions": [each.completion for each in accounts],
        "states": [each.state.value for each in accounts],
        "transition_counts": [each.transitions for each in accounts],
        "published": [each.published_at for each in accounts],
        "reconciliations": [each.reconciliation_status for each in accounts],
        "former_transitions": [each.former and each.former.transitions for each in accounts],
        "former_partials": [each.former and each.former.partials for each in accounts],
        "former_sessions": [each.former and each.former.session_id for each in accounts],
        "former_completions": [each.former and each.former.completion for each in accounts],
    }


def _arrows(arrows: Sequence[BatchArrow]) -> dict[str, list[Any]]:
    return {
        "arrow_batch_ids": [each.batch_id for each in arrows],
        "arrow_sort_keys": [each.sort_key for each in arrows],
        "arrow_from": [each.from_state.value for each in arrows],
        "arrow_to": [each.to_state.value for each in arrows],
        "arrow_events": [each.event for each in arrows],
        "arrow_last": [each.last for each in arrows],
    }


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
