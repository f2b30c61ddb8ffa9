"""Compares the two accounts of batches, as the ledger has them, and stores what differs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from tasker_zmq.domain.ids import BatchId, StepId
from tasker_zmq.domain.reconciliation import (
    Accounts,
    CompletionAccount,
    Difference,
    DifferenceKind,
    PartialAccount,
    Reconciliation,
    ReconciliationStatus,
    SummaryAccount,
    in_order,
    reconcile,
)
from tasker_zmq.domain.results import ResultStatus, Verdict, result_status
from tasker_zmq.pipeline.accounts import BatchView
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    PartialResult,
    ResultMessage,
)
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store.batches import StoredDifference
from tasker_zmq.store.reads import batches as batch_reads
from tasker_zmq.store.statements import Row

_MESSAGES: dict[str, type[ResultMessage]] = {
    topics.PARTIAL_RESULT: PartialResult,
    topics.BATCH_COMPLETION: BatchCompletion,
    topics.BATCH_ERROR: BatchError,
    topics.RESULTS: OldResponse,
}
REPEATED_MAX = 3  # messages for each step that memory keeps; who repeats himself is looked up
_NO_PART = frozenset({Verdict.REJECTED.value, Verdict.UNKNOWN_BATCH.value})


def of_messages(steps: Iterable[StepId], messages: Iterable[ResultMessage]) -> Accounts:
    """The accounts of a batch all of whose messages are at hand."""
    accounts = Accounts(steps=list(steps))
    for message in messages:
        _add_message(accounts, message)
    return accounts


def load(connection: Connection, batch_ids: Sequence[BatchId]) -> dict[BatchId, Accounts]:
    """The accounts of these batches from the ledger."""
    accounts: dict[BatchId, Accounts] = {batch_id: Accounts() for batch_id in batch_ids}
    for row in batch_store.load_accounts(connection, batch_ids):
        _add(accounts[row.batch_id], row)
    return accounts


def compare(accounts: Accounts) -> Reconciliation:
    """Whether the two accounts agree."""
    partials, completions = accounts.both()
    return reconcile(accounts.steps, partials, completions=completions)


def compare_at_once(batch: BatchView) -> None:
    """Compare a batch of which memory has every message: nobody need ask the ledger.

    Only agreement is settled here; differences are looked for again in the ledger and stored.
    """
    if batch.heard_before or len(batch.batch_step_ids) < batch.batch_size:
        return
    told = of_messages(batch.batch_step_ids, batch.messages)
    if batch.told is not None:
        told = batch.told.followed_by(told)
    if not batch.completion or batch.ended < batch.batch_size:
        batch.told = told if len(told.partials) <= REPEATED_MAX * batch.batch_size else None
    elif compare(told).status is ReconciliationStatus.CONSISTENT:
        batch.reconciliation_status = ReconciliationStatus.CONSISTENT.value


def store(
    connection: Connection, accounts: dict[BatchId, Accounts], *, now: datetime
) -> dict[BatchId, Reconciliation]:
    """Compare and write down: a batch's earlier differences give way to today's."""
    found = {batch_id: compare(each) for batch_id, each in sorted(accounts.items())}
    differences = [
        StoredDifference(
            batch_id=batch_id,
            step_id=difference.step_id,
            kind=difference.kind,
            partial_says=difference.partial_says,
            completion_says=difference.completion_says,
        )
        for batch_id, verdict in found.items()
        for difference in verdict.differences
    ]
    statuses = [(batch_id, verdict.status.value) for batch_id, verdict in found.items()]
    batch_store.settle(connection, statuses, differences, now=now)
    return found


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was stored of a batch's two accounts, and what the ledger comes to when asked again."""

    batch_id: BatchId
    stored: Reconciliation
    computed: Reconciliation

    @property
    def pending(self) -> bool:
        """Nothing was stored yet: messages may still come."""
        return self.stored.status is ReconciliationStatus.PENDING

    @property
    def agrees(self) -> bool:
        return self.pending or self.stored == self.computed


def recompute(connection: Connection, batch_ids: Sequence[BatchId]) -> list[Comparison]:
    """Compare these batches again, writing nothing; in the order of their ids."""
    stored = batch_reads.stored_verdicts(connection, batch_ids)
    return [
        Comparison(batch_id=batch_id, stored=_stored(*stored[batch_id]), computed=compare(accounts))
        for batch_id, accounts in sorted(load(connection, sorted(stored)).items())
    ]


def _stored(status: str, differences: Iterable[StoredDifference]) -> Reconciliation:
    return Reconciliation(
        status=ReconciliationStatus(status),
        differences=in_order(
            Difference(
                kind=DifferenceKind(each.kind),
                step_id=each.step_id,
                partial_says=each.partial_says,
                completion_says=each.completion_says,
            )
            for each in differences
        ),
    )


def _add(accounts: Accounts, row: Row) -> None:
    if row.kind == "step":
        accounts.steps.append(row.step_id)
        return
    if row.verdict in _NO_PART:
        return
    kind = _MESSAGES.get(row.kind)
    if kind is not None:
        _add_message(accounts, msgspec.json.decode(row.raw, type=kind))


def _add_message(accounts: Accounts, message: ResultMessage) -> None:
    if isinstance(message, PartialResult):
        _add_partial(accounts, message)
    elif isinstance(message, BatchCompletion):
        accounts.completions.append(_completion(message))
    elif isinstance(message, BatchError):
        accounts.given_up = True
    elif isinstance(message, OldResponse):
        _add_old(accounts, message)


def _add_partial(accounts: Accounts, message: PartialResult) -> None:
    status = result_status(message.status)
    if status is None:
        return
    completed = status is ResultStatus.COMPLETED
    accounts.partials.append(
        PartialAccount(
            step_id=message.step_id,
            status=status,
            sequence=message.sequence,
            output_digest=digest(bytes(message.output)) if completed else None,
        )
    )


def _completion(message: BatchCompletion) -> CompletionAccount:
    return CompletionAccount(
        total_steps=message.total_steps,
        completed_steps=message.completed_steps,
        failed_steps=message.failed_steps,
        in_progress_steps=message.in_progress_steps,
        summaries=tuple(
            SummaryAccount(
                step_id=each.step_id,
                status=result_status(each.final_status),
                output_digest=each.output_digest,
            )
            for each in message.step_summaries
        ),
    )


def _add_old(accounts: Accounts, message: OldResponse) -> None:
    """The older response is both accounts at once, so it agrees with itself."""
    outcomes: list[tuple[StepId, ResultStatus]] = [
        (each.step_id, status)
        for each in message.results
        if (status := result_status(each.status)) is not None
    ]
    accounts.partials += [
        PartialAccount(step_id=step_id, status=status) for step_id, status in outcomes
    ]
    accounts.completions.append(
        CompletionAccount(
            total_steps=len(message.results),
            completed_steps=_count(outcomes, ResultStatus.COMPLETED),
            failed_steps=_count(outcomes, ResultStatus.FAILED),
            summaries=tuple(
                SummaryAccount(step_id=step_id, status=status) for step_id, status in outcomes
            ),
        )
    )


def _count(outcomes: Iterable[tuple[StepId, ResultStatus]], wanted: ResultStatus) -> int:
    return sum(1 for _, status in outcomes if status is wanted)


def digest(output: bytes) -> str:
    """SHA-256 of a step's output as it was sent."""
    return hashlib.sha256(output).hexdigest()
