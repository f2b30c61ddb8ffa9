"""The ledger: its newest rows by filter, and one row with the text as it came."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Text, cast, or_, select

from tasker_zmq.domain.ids import BatchId, TaskId
from tasker_zmq.store.tables import Batch, BatchStep, ReceivedResult, WorkflowStep

LIMIT_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class LedgerFilter:
    """Which rows; every condition is optional, all of them must hold."""

    batch_id: BatchId | None = None
    task_id: TaskId | None = None
    message_type: str | None = None
    verdict: str | None = None
    limit: int = 20
    after_id: int | None = None


def _entries() -> Any:
    return (
        select(
            ReceivedResult.id,
            ReceivedResult.received_at,
            ReceivedResult.message_type,
            ReceivedResult.status,
            ReceivedResult.verdict,
            ReceivedResult.batch_id,
            Batch.batch_uuid,
            WorkflowStep.task_id,
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.name.label("step"),
            ReceivedResult.worker_id.label("worker"),
            ReceivedResult.session_id,
            ReceivedResult.core_id,
            ReceivedResult.sequence_number.label("sequence"),
            ReceivedResult.execution_time_ms,
            ReceivedResult.processing_errors,
        )
        .outerjoin(Batch, Batch.batch_id == ReceivedResult.batch_id)
        .outerjoin(BatchStep, BatchStep.id == ReceivedResult.batch_step_id)
        .outerjoin(WorkflowStep, WorkflowStep.workflow_step_id == BatchStep.workflow_step_id)
    )


def tail(connection: Connection, wanted: LedgerFilter) -> list[dict[str, Any]]:
    """The newest rows, the oldest of them first; the last one's `id` is where to go on from."""
    chosen = _entries().order_by(ReceivedResult.id.desc())
    conditions = (
        (ReceivedResult.batch_id, wanted.batch_id),
        (ReceivedResult.message_type, wanted.message_type),
        (ReceivedResult.verdict, wanted.verdict),
    )
    for column, value in conditions:
        if value is not None:
            chosen = chosen.where(column == value)
    if wanted.task_id is not None:
        chosen = chosen.where(_about(wanted.task_id))
    if wanted.after_id is not None:
        chosen = chosen.where(ReceivedResult.id > wanted.after_id)
    limit = max(1, min(wanted.limit, LIMIT_MAX))
    rows = [dict(row) for row in connection.execute(chosen.limit(limit)).mappings()]
    return rows[::-1]


def _about(task_id: TaskId) -> Any:
    """Words about the task's own steps, and about whole batches that carried one of them."""
    carried = (
        select(BatchStep.batch_id)
        .join(WorkflowStep, WorkflowStep.workflow_step_id == BatchStep.workflow_step_id)
        .where(WorkflowStep.task_id == task_id)
    )
    whole = ReceivedResult.batch_step_id.is_(None) & ReceivedResult.batch_id.in_(carried)
    return or_(WorkflowStep.task_id == task_id, whole)


def show(connection: Connection, entry_id: int) -> dict[str, Any] | None:
    """One row; `raw_text` is what came, to the byte, or `raw_bytes` if it was no JSON."""
    chosen = _entries().add_columns(
        ReceivedResult.processed_at,
        cast(ReceivedResult.raw_message_json, Text).label("raw_text"),
        ReceivedResult.raw_bytes,
    )
    row = connection.execute(chosen.where(ReceivedResult.id == entry_id)).mappings().one_or_none()
    return None if row is None else dict(row)
