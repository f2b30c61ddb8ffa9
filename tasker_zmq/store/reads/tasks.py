"""Tasks: lists by filter, and one task with its steps, its edges and how it stands."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, case, func, literal, select
from sqlalchemy.orm import aliased

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import StepState
from tasker_zmq.store.reads.numbers import is_id
from tasker_zmq.store.tables import (
    Batch,
    NamedTask,
    NamedTaskStep,
    Namespace,
    Registration,
    StepEdge,
    Task,
    Worker,
    WorkflowStep,
)

LIMIT_MAX: Final = 1_000
NEAR_IDENTITIES_MAX: Final = 1_000
DONE: Final = (StepState.COMPLETE, StepState.RESOLVED_MANUALLY)


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """Which tasks; every condition is optional, all of them must hold."""

    namespace: str | None = None
    name: str | None = None
    version: str | None = None
    state: str | None = None
    tag: str | None = None
    identity: str | None = None
    limit: int = 50
    before_task_id: int | None = None


def full_name() -> Any:
    """`namespace/name@version` of a named task that is joined with its namespace."""
    return Namespace.name + "/" + NamedTask.name + "@" + NamedTask.version


def _tasks() -> Any:
    done = (
        select(func.count())
        .where(WorkflowStep.task_id == Task.task_id, WorkflowStep.state.in_(DONE))
        .scalar_subquery()
    )
    return (
        select(
            Task.task_id,
            full_name().label("workflow"),
            Task.state,
            Task.paused,
            Task.priority,
            Task.identity,
            Task.tags,
            Task.step_count,
            done.label("steps_done"),
            Task.failed_steps,
            Task.requested_at,
            Task.completed_at,
        )
        .join(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
    )


def listed(connection: Connection, wanted: TaskFilter) -> list[dict[str, Any]]:
    """Newest first, at most `wanted.limit`."""
    chosen = _tasks().order_by(Task.task_id.desc())
    conditions = (
        (Namespace.name, wanted.namespace),
        (NamedTask.name, wanted.name),
        (NamedTask.version, wanted.version),
        (Task.state, wanted.state),
        (Task.identity, wanted.identity),
    )
    for column, value in conditions:
        if value is not None:
            chosen = chosen.where(column == value)
    if wanted.tag is not None:
        chosen = chosen.where(literal(wanted.tag) == Task.tags.any_())
    if wanted.before_task_id is not None:
        chosen = chosen.where(Task.task_id < wanted.before_task_id)
    limit = max(1, min(wanted.limit, LIMIT_MAX))
    return [dict(row) for row in connection.execute(chosen.limit(limit)).mappings()]


def identify(connection: Connection, word: str) -> list[TaskId]:
    """The tasks that `word` may mean: the one with that id, else those with that identity."""
    if is_id(word):
        found = connection.execute(select(Task.task_id).where(Task.task_id == int(word))).scalar()
        if found is not None:
            return [TaskId(found)]
    chosen = select(Task.task_id).where(Task.identity == word).order_by(Task.task_id.desc())
    return [TaskId(each) for each in connection.execute(chosen.limit(10)).scalars()]


def recent_identities(connection: Connection) -> list[str]:
    """Identities that callers gave to the newest tasks, for messages that suggest the nearest."""
    newest = select(Task.task_id, Task.identity).order_by(Task.task_id.desc())
    recent = newest.limit(NEAR_IDENTITIES_MAX).subquery()
    chosen = select(recent.c.identity).where(
        recent.c.identity.is_not(None), recent.c.identity.not_like("command:%")
    )
    return [str(each) for each in connection.execute(chosen).scalars()]


def show(connection: Connection, task_id: TaskId) -> dict[str, Any] | None:
    """One task with `steps` (parents first), `edges` and `counts` of steps by state."""
    chosen = _tasks().add_columns(
        Task.context,
        Task.error,
        Task.initiator,
        Task.source_system,
        Task.reason,
        Task.correlation_id,
        Task.processing_core_id.label("core_id"),
        Task.scheduled_for,
    )
    task = connection.execute(chosen.where(Task.task_id == task_id)).mappings().one_or_none()
    if task is None:
        return None
    edges = _edges(connection, task_id)
    parents: dict[str, list[str]] = {}
    for edge in edges:
        parents.setdefault(edge["to"], []).append(edge["from"])
    steps = [
        {**step, "parents": parents.get(step["name"], [])} for step in _steps(connection, task_id)
    ]
    return {
        **task,
        "counts": dict(Counter(step["state"] for step in steps)),
        "steps": steps,
        "edges": edges,
    }


def _steps(connection: Connection, task_id: TaskId) -> Sequence[RowMapping]:
    """A step in progress is with the worker that has its batch, before any result says so."""
    running = WorkflowStep.state == StepState.IN_PROGRESS
    chosen = (
        select(
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.name,
            WorkflowStep.state,
            WorkflowStep.attempts,
            (WorkflowStep.retry_limit + 1).label("tries"),
            WorkflowStep.retryable,
            WorkflowStep.losses,
            case(
                (running, func.coalesce(Worker.worker_name, Batch.session_id)),
                else_=WorkflowStep.worker_name,
            ).label("worker"),
            case((running, Registration.status)).label("session_status"),
            NamedTaskStep.handler_class,
            WorkflowStep.started_at,
            WorkflowStep.finished_at,
            WorkflowStep.next_attempt_at,
            WorkflowStep.results,
            WorkflowStep.error,
        )
        .join(Task, Task.task_id == WorkflowStep.task_id)
        .outerjoin(
            NamedTaskStep,
            (NamedTaskStep.named_task_id == Task.named_task_id)
            & (NamedTaskStep.named_step_id == WorkflowStep.named_step_id),
        )
        .outerjoin(Batch, Batch.batch_id == WorkflowStep.current_batch_id)
        .outerjoin(Registration, Registration.registration_id == Batch.registration_id)
        .outerjoin(Worker, Worker.worker_id == Registration.worker_id)
        .where(WorkflowStep.task_id == task_id)
        .order_by(WorkflowStep.workflow_step_id)
    )
    return connection.execute(chosen).mappings().all()


def _edges(connection: Connection, task_id: TaskId) -> list[dict[str, str]]:
    parent, child = aliased(WorkflowStep), aliased(WorkflowStep)
    chosen = (
        select(parent.name.label("from"), child.name.label("to"))
        .join(StepEdge, StepEdge.to_step_id == child.workflow_step_id)
        .join(parent, parent.workflow_step_id == StepEdge.from_step_id)
        .where(child.task_id == task_id)
        .order_by(child.workflow_step_id, parent.workflow_step_id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def parents_of(shown: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Step names of a shown task to the names that they wait for."""
    return {step["name"]: tuple(step["parents"]) for step in shown["steps"]}
