"""One step with everything that happened to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Text, cast, func, select
from sqlalchemy.orm import aliased

from tasker_zmq.domain.ids import StepId, TaskId
from tasker_zmq.domain.states import StepState
from tasker_zmq.store.reads.tasks import full_name
from tasker_zmq.store.tables import (
    Batch,
    BatchStep,
    DeadLetter,
    NamedTask,
    NamedTaskStep,
    Namespace,
    ReceivedResult,
    Registration,
    StepEdge,
    StepTransition,
    Task,
    Worker,
    WorkflowStep,
)

LOOKED_AT_MAX: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class StepFilter:
    """Which steps; every condition is optional, all of them must hold."""

    task_ids: Sequence[TaskId] = ()
    state: StepState | None = None
    handler: str | None = None
    namespace: str | None = None
    limit: int = 50
    before_step_id: int | None = None


def listed(
    connection: Connection, wanted: StepFilter
) -> tuple[list[dict[str, Any]], StepId | None]:
    """A page, newest first, and behind which step the next one begins; None behind the last.

    It looks at no more than LOOKED_AT_MAX steps, found by their own ids or by their tasks'.
    """
    looked_at = select(WorkflowStep.workflow_step_id).order_by(WorkflowStep.workflow_step_id.desc())
    if wanted.task_ids:
        looked_at = looked_at.where(WorkflowStep.task_id.in_(wanted.task_ids))
    if wanted.before_step_id is not None:
        looked_at = looked_at.where(WorkflowStep.workflow_step_id < wanted.before_step_id)
    window = looked_at.limit(LOOKED_AT_MAX).subquery()
    chosen = _overview().join(window, window.c.workflow_step_id == WorkflowStep.workflow_step_id)
    for column, value in (
        (WorkflowStep.state, wanted.state),
        (NamedTaskStep.handler_class, wanted.handler),
        (Namespace.name, wanted.namespace),
    ):
        if value is not None:
            chosen = chosen.where(column == value)
    page = chosen.order_by(WorkflowStep.workflow_step_id.desc()).limit(wanted.limit)
    found = [dict(row) for row in connection.execute(page).mappings()]
    if len(found) == wanted.limit:
        return found, found[-1]["step_id"]
    last = looked_at.offset(LOOKED_AT_MAX - 1).limit(1)
    more = connection.execute(last).scalar()
    return found, None if more is None else StepId(more)


def _overview() -> Any:
    return (
        select(
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.task_id,
            full_name().label("workflow"),
            WorkflowStep.name,
            WorkflowStep.state,
            WorkflowStep.attempts,
            (WorkflowStep.retry_limit + 1).label("tries"),
            WorkflowStep.losses,
            NamedTaskStep.handler_class,
            WorkflowStep.worker_name.label("worker"),
            WorkflowStep.created_at,
            WorkflowStep.started_at,
            WorkflowStep.finished_at,
            WorkflowStep.next_attempt_at,
            WorkflowStep.error,
        )
        .join(Task, Task.task_id == WorkflowStep.task_id)
        .join(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .outerjoin(
            NamedTaskStep,
            (NamedTaskStep.named_task_id == Task.named_task_id)
            & (NamedTaskStep.named_step_id == WorkflowStep.named_step_id),
        )
    )


def find_by_name(connection: Connection, task_id: TaskId, name: str) -> StepId | None:
    """The step of that name in that task."""
    chosen = select(WorkflowStep.workflow_step_id)
    found = connection.execute(
        chosen.where(WorkflowStep.task_id == task_id, WorkflowStep.name == name)
    ).scalar()
    return None if found is None else StepId(found)


def names(connection: Connection, task_id: TaskId) -> list[str]:
    """The names of a task's steps, for messages that suggest the nearest."""
    chosen = select(WorkflowStep.name).where(WorkflowStep.task_id == task_id)
    return list(connection.execute(chosen.order_by(WorkflowStep.workflow_step_id)).scalars())


def show(connection: Connection, step_id: StepId) -> dict[str, Any] | None:
    """One step with `parents`, `children`, `transitions`, `batches`, `messages`, `dead_letters`."""
    step = _step(connection, step_id)
    if step is None:
        return None
    return {
        **step,
        "parents": _neighbours(connection, step_id, above=True),
        "children": _neighbours(connection, step_id, above=False),
        "transitions": _transitions(connection, step_id),
        "batches": _batches(connection, step_id),
        "messages": _messages(connection, step_id),
        "dead_letters": _dead_letters(connection, step_id),
    }


def _step(connection: Connection, step_id: StepId) -> dict[str, Any] | None:
    chosen = (
        select(
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.name,
            WorkflowStep.task_id,
            full_name().label("workflow"),
            WorkflowStep.state,
            WorkflowStep.attempts,
            (WorkflowStep.retry_limit + 1).label("tries"),
            WorkflowStep.retryable,
            WorkflowStep.losses,
            WorkflowStep.unfinished_parents,
            WorkflowStep.worker_name.label("worker"),
            NamedTaskStep.handler_class,
            NamedTaskStep.handler_config,
            NamedTaskStep.timeout_seconds,
            NamedTaskStep.backoff,
            NamedTaskStep.backoff_base_ms,
            NamedTaskStep.backoff_ceiling_ms,
            WorkflowStep.current_batch_id,
            WorkflowStep.created_at,
            WorkflowStep.started_at,
            WorkflowStep.finished_at,
            WorkflowStep.next_attempt_at,
            WorkflowStep.results,
            WorkflowStep.error,
        )
        .join(Task, Task.task_id == WorkflowStep.task_id)
        .join(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .outerjoin(
            NamedTaskStep,
            (NamedTaskStep.named_task_id == Task.named_task_id)
            & (NamedTaskStep.named_step_id == WorkflowStep.named_step_id),
        )
        .where(WorkflowStep.workflow_step_id == step_id)
    )
    found = connection.execute(chosen).mappings().one_or_none()
    return None if found is None else dict(found)


def _neighbours(connection: Connection, step_id: StepId, *, above: bool) -> list[dict[str, Any]]:
    other = aliased(WorkflowStep)
    here, there = (
        (StepEdge.to_step_id, StepEdge.from_step_id)
        if above
        else (StepEdge.from_step_id, StepEdge.to_step_id)
    )
    chosen = (
        select(other.workflow_step_id.label("step_id"), other.name, other.state)
        .join(StepEdge, there == other.workflow_step_id)
        .where(here == step_id)
        .order_by(other.workflow_step_id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _told(name: str) -> Any:
    """What is kept with a transition that a person caused; null with every other."""
    return func.json_extract_path_text(StepTransition.metadata_, name).label(name)


def _transitions(connection: Connection, step_id: StepId) -> list[dict[str, Any]]:
    chosen = (
        select(
            StepTransition.sort_key,
            StepTransition.from_state,
            StepTransition.to_state,
            StepTransition.event_name.label("event"),
            _told("by"),
            _told("why"),
            StepTransition.created_at,
        )
        .where(StepTransition.workflow_step_id == step_id)
        .order_by(StepTransition.sort_key)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _batches(connection: Connection, step_id: StepId) -> list[dict[str, Any]]:
    """Every batch that carried the step; `attempt` counts from 1 here."""
    chosen = (
        select(
            (BatchStep.attempt + 1).label("attempt"),
            Batch.batch_id,
            Batch.batch_uuid,
            Batch.state,
            Worker.worker_name.label("worker"),
            Batch.session_id,
            Batch.created_at,
            Batch.published_at,
        )
        .join(Batch, Batch.batch_id == BatchStep.batch_id)
        .outerjoin(Registration, Registration.registration_id == Batch.registration_id)
        .outerjoin(Worker, Worker.worker_id == Registration.worker_id)
        .where(BatchStep.workflow_step_id == step_id)
        .order_by(BatchStep.id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _messages(connection: Connection, step_id: StepId) -> list[dict[str, Any]]:
    """The partial results that named the step; in which batch each came, and what became of it."""
    carried = select(BatchStep.batch_id, BatchStep.id).where(BatchStep.workflow_step_id == step_id)
    places = carried.subquery()
    chosen = (
        select(
            ReceivedResult.id.label("ledger_id"),
            ReceivedResult.received_at,
            ReceivedResult.batch_id,
            ReceivedResult.status,
            ReceivedResult.verdict,
            ReceivedResult.worker_id.label("worker"),
            ReceivedResult.sequence_number.label("sequence"),
            ReceivedResult.execution_time_ms,
            cast(ReceivedResult.processing_errors, Text).label("reason"),
        )
        .join(
            places,
            (places.c.batch_id == ReceivedResult.batch_id)
            & (places.c.id == ReceivedResult.batch_step_id),
        )
        .order_by(ReceivedResult.id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _dead_letters(connection: Connection, step_id: StepId) -> list[dict[str, Any]]:
    chosen = (
        select(
            DeadLetter.dead_letter_id,
            DeadLetter.reason,
            DeadLetter.status,
            DeadLetter.fingerprint,
            DeadLetter.created_at,
        )
        .where(DeadLetter.workflow_step_id == step_id)
        .order_by(DeadLetter.dead_letter_id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]
