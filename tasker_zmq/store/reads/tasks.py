"""Tasks: lists by filter, and one task with its steps, its edges and how it stands."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, literal, select

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import StepState
from tasker_zmq.store.reads.numbers import is_id
from tasker_zmq.store.statements import send, settle
from tasker_zmq.store.tables import NamedTask, Namespace, Task, WorkflowStep

LIMIT_MAX: Final = 1_000
NEAR_IDENTITIES_MAX: Final = 1_000
_PARTS_OF_TASK: Final = ("show_task", "show_task_steps", "show_task_edges")
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
    """One task with `steps` (parents first), `edges` and `counts` of steps by state.

    In one round trip: whoever waited for the task waits for this too.
    """
    asked = {"task_id": task_id}
    parts = [send(connection, name, asked) for name in _PARTS_OF_TASK]
    settle(connection)
    task, steps, edges = ([each._asdict() for each in part.rows] for part in parts)
    if not task:
        return None
    parents: dict[str, list[str]] = {}
    for edge in edges:
        parents.setdefault(edge["child"], []).append(edge["parent"])
    return {
        **task[0],
        "counts": dict(Counter(step["state"] for step in steps)),
        "steps": [{**step, "parents": parents.get(step["name"], [])} for step in steps],
        "edges": [{"from": edge["parent"], "to": edge["child"]} for edge in edges],
    }


def parents_of(shown: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Step names of a shown task to the names that they wait for."""
    return {step["name"]: tuple(step["parents"]) for step in shown["steps"]}
