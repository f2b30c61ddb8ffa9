"""Batches: lists by filter, and one batch with its steps, its transitions and its two accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Text, cast, select

from tasker_zmq.domain.ids import BatchId
from tasker_zmq.store.batches import StoredDifference
from tasker_zmq.store.reads.numbers import is_id
from tasker_zmq.store.tables import (
    Batch,
    BatchStep,
    BatchTransition,
    Discrepancy,
    ReceivedResult,
    Registration,
    Worker,
    WorkflowStep,
)

LIMIT_MAX: Final = 1_000
UUID_DIGITS: Final = 32
COMPLETION: Final = "batch_completion"


@dataclass(frozen=True, kw_only=True)
class BatchFilter:
    """Which batches; every condition is optional, all of them must hold."""

    state: str | None = None
    reconciliation: str | None = None
    worker: str | None = None
    task_id: int | None = None
    limit: int = 50
    before_batch_id: int | None = None


def _batches() -> Any:
    return (
        select(
            Batch.batch_id,
            Batch.batch_uuid,
            Batch.state,
            Worker.worker_name.label("worker"),
            Batch.session_id,
            Batch.core_id,
            Batch.task_id,
            Batch.batch_size,
            Batch.completed_steps,
            Batch.failed_steps,
            Batch.partial_results_received,
            Batch.final_completion_received,
            Batch.reconciliation_status,
            Batch.deliveries,
            Batch.publication,
            Batch.timeout_seconds,
            Batch.created_at,
            Batch.published_at,
            Batch.updated_at,
        )
        .outerjoin(Registration, Registration.registration_id == Batch.registration_id)
        .outerjoin(Worker, Worker.worker_id == Registration.worker_id)
    )


def listed(connection: Connection, wanted: BatchFilter) -> list[dict[str, Any]]:
    """Newest first, at most `wanted.limit`."""
    chosen = _batches().order_by(Batch.batch_id.desc())
    conditions = (
        (Batch.state, wanted.state),
        (Batch.reconciliation_status, wanted.reconciliation),
        (Worker.worker_name, wanted.worker),
    )
    for column, value in conditions:
        if value is not None:
            chosen = chosen.where(column == value)
    if wanted.task_id is not None:
        carried = (
            select(BatchStep.batch_id)
            .join(WorkflowStep, WorkflowStep.workflow_step_id == BatchStep.workflow_step_id)
            .where(WorkflowStep.task_id == wanted.task_id)
        )
        chosen = chosen.where(Batch.batch_id.in_(carried))
    if wanted.before_batch_id is not None:
        chosen = chosen.where(Batch.batch_id < wanted.before_batch_id)
    limit = max(1, min(wanted.limit, LIMIT_MAX))
    return [dict(row) for row in connection.execute(chosen.limit(limit)).mappings()]


def identify(connection: Connection, word: str) -> list[tuple[BatchId, str]]:
    """Id and uuid of the batches that `word` may mean: an id, or the beginning of a uuid."""
    chosen = select(Batch.batch_id, Batch.batch_uuid)
    if is_id(word):
        found = connection.execute(chosen.where(Batch.batch_id == int(word))).one_or_none()
        if found is not None:
            return [(BatchId(found.batch_id), found.batch_uuid)]
    digits = word.lower().replace("-", "")
    if not digits or len(digits) > UUID_DIGITS or set(digits) - set("0123456789abcdef"):
        return []
    low, high = digits.ljust(UUID_DIGITS, "0"), digits.ljust(UUID_DIGITS, "f")
    between = chosen.where(Batch.batch_uuid >= low, Batch.batch_uuid <= high)
    rows = connection.execute(between.order_by(Batch.batch_uuid).limit(10))
    return [(BatchId(row.batch_id), row.batch_uuid) for row in rows]


def ids_after(connection: Connection, after: BatchId, *, at_most: int) -> list[BatchId]:
    """Batches by id, from the one behind `after`, whatever their state."""
    chosen = select(Batch.batch_id).where(Batch.batch_id > after).order_by(Batch.batch_id)
    return [BatchId(found) for found in connection.execute(chosen.limit(at_most)).scalars()]


def stored_verdicts(
    connection: Connection, batch_ids: Sequence[BatchId]
) -> dict[BatchId, tuple[str, list[StoredDifference]]]:
    """What the reconciler wrote down of these batches: a status, and the differences."""
    chosen = select(Batch.batch_id, Batch.reconciliation_status)
    found: dict[BatchId, tuple[str, list[StoredDifference]]] = {
        BatchId(row.batch_id): (row.reconciliation_status, [])
        for row in connection.execute(chosen.where(Batch.batch_id.in_(batch_ids)))
    }
    differences = select(
        Discrepancy.batch_id,
        Discrepancy.workflow_step_id.label("step_id"),
        Discrepancy.kind,
        Discrepancy.partial_says,
        Discrepancy.completion_says,
    ).where(Discrepancy.batch_id.in_(batch_ids))
    for row in connection.execute(differences).mappings():
        found[row["batch_id"]][1].append(StoredDifference(**row))
    return found


def show(connection: Connection, batch_id: BatchId) -> dict[str, Any] | None:
    """One batch with `steps`, `transitions`, both accounts and `discrepancies`."""
    found = (
        connection.execute(_batches().where(Batch.batch_id == batch_id)).mappings().one_or_none()
    )
    if found is None:
        return None
    return {
        **found,
        "steps": _steps(connection, batch_id),
        "transitions": _transitions(connection, batch_id),
        "partial_results": _partial_results(connection, batch_id),
        "completions": _completions(connection, batch_id),
        "discrepancies": _discrepancies(connection, batch_id),
    }


def _steps(connection: Connection, batch_id: BatchId) -> list[dict[str, Any]]:
    """What the batch carried, in its order; `current`: only this batch's results count."""
    chosen = (
        select(
            BatchStep.sequence_order,
            BatchStep.id.label("batch_step_id"),
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.name,
            WorkflowStep.task_id,
            (BatchStep.attempt + 1).label("attempt"),
            BatchStep.expected_handler_class.label("handler_class"),
            WorkflowStep.state,
            (WorkflowStep.current_batch_id == BatchStep.batch_id).label("current"),
        )
        .join(WorkflowStep, WorkflowStep.workflow_step_id == BatchStep.workflow_step_id)
        .where(BatchStep.batch_id == batch_id)
        .order_by(BatchStep.sequence_order)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _transitions(connection: Connection, batch_id: BatchId) -> list[dict[str, Any]]:
    chosen = (
        select(
            BatchTransition.sort_key,
            BatchTransition.from_state,
            BatchTransition.to_state,
            BatchTransition.event_name.label("event"),
            BatchTransition.most_recent,
            BatchTransition.created_at,
        )
        .where(BatchTransition.batch_id == batch_id)
        .order_by(BatchTransition.sort_key)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _partial_results(connection: Connection, batch_id: BatchId) -> list[dict[str, Any]]:
    """The worker's first account: one line per message, in the order in which they came."""
    chosen = (
        select(
            ReceivedResult.id.label("ledger_id"),
            ReceivedResult.received_at,
            BatchStep.workflow_step_id.label("step_id"),
            ReceivedResult.message_type,
            ReceivedResult.status,
            ReceivedResult.verdict,
            ReceivedResult.worker_id.label("worker"),
            ReceivedResult.sequence_number.label("sequence"),
            ReceivedResult.execution_time_ms,
        )
        .outerjoin(BatchStep, BatchStep.id == ReceivedResult.batch_step_id)
        .where(ReceivedResult.batch_id == batch_id, ReceivedResult.message_type != COMPLETION)
        .order_by(ReceivedResult.id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _completions(connection: Connection, batch_id: BatchId) -> list[dict[str, Any]]:
    """The worker's second account: what each completion says of the batch and of its steps."""
    chosen = (
        select(
            ReceivedResult.id.label("ledger_id"),
            ReceivedResult.received_at,
            ReceivedResult.verdict,
            ReceivedResult.worker_id.label("worker"),
            cast(ReceivedResult.raw_message_json, Text).label("raw"),
        )
        .where(ReceivedResult.batch_id == batch_id, ReceivedResult.message_type == COMPLETION)
        .order_by(ReceivedResult.id)
    )
    rows = [dict(row) for row in connection.execute(chosen).mappings()]
    return [{**row, **_counts(row.pop("raw"))} for row in rows]


def _counts(raw: str | None) -> dict[str, Any]:
    told = orjson.loads(raw) if raw else {}
    said: Mapping[str, Any] = told if isinstance(told, dict) else {}
    fields = ("total_steps", "completed_steps", "failed_steps", "in_progress_steps")
    return {
        **{field: said.get(field) for field in fields},
        "step_summaries": said.get("step_summaries", []),
    }


def _discrepancies(connection: Connection, batch_id: BatchId) -> list[dict[str, Any]]:
    chosen = (
        select(
            Discrepancy.kind,
            Discrepancy.workflow_step_id.label("step_id"),
            Discrepancy.partial_says,
            Discrepancy.completion_says,
            Discrepancy.found_at,
        )
        .where(Discrepancy.batch_id == batch_id)
        .order_by(Discrepancy.id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]
