"""Named tasks and their steps: publishing them, finding them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from tasker_zmq.domain.graph import children
from tasker_zmq.domain.ids import HandlerClass, NamedStepId, NamedTaskId
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.template import Backoff, BackoffKind
from tasker_zmq.store.statements import rows, send
from tasker_zmq.store.tables import NamedStep, NamedTask, NamedTaskStep, Namespace, Task

PINNED_COUNT_MAX = 1_000

_WRITE_NAMES = text(
    "INSERT INTO tasker_named_steps (name, created_at) "
    "SELECT u.name, :now FROM unnest(CAST(:names AS text[])) AS u(name) "
    "ON CONFLICT (name) DO NOTHING"
)
_STEP_COLUMNS = """position, handler_class, handler_config, depends_on, parent_positions, is_leaf,
    retryable, retry_limit, backoff, backoff_base_ms, backoff_ceiling_ms, timeout_seconds,
    confirm_start"""
_WRITE_STEPS = text(
    f"""INSERT INTO tasker_named_tasks_named_steps
    (named_task_id, named_step_id, {_STEP_COLUMNS})
SELECT :named_task_id, n.named_step_id, {_STEP_COLUMNS}
FROM jsonb_to_recordset(CAST(:steps AS jsonb)) AS u(
    name text, position integer, handler_class text, handler_config jsonb, depends_on text[],
    parent_positions integer[], is_leaf boolean, retryable boolean, retry_limit integer,
    backoff text, backoff_base_ms integer, backoff_ceiling_ms integer,
    timeout_seconds double precision, confirm_start boolean
) JOIN tasker_named_steps n USING (name)"""  # noqa: S608 - the columns are ours
)


@dataclass(frozen=True, kw_only=True)
class StepDefinition:
    """A step of a named task as dispatch and retry need it; `handler_config` is JSON text."""

    named_task_id: NamedTaskId
    named_task: TaskName
    named_step_id: NamedStepId
    name: str
    handler_class: HandlerClass
    handler_config: bytes
    depends_on: tuple[str, ...]
    retryable: bool
    retry_limit: int
    backoff: Backoff
    timeout_seconds: float
    confirm_start: bool


@dataclass(frozen=True)
class Shape:
    """The graph of a definition by places, which count from 0."""

    places: dict[NamedStepId, int]
    parent_counts: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]
    roots: tuple[int, ...]  # that wait for nothing


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A named task with its steps, parents first."""

    named_task_id: NamedTaskId
    namespace: str
    name: str
    version: str
    template_digest: str
    input_schema: dict[str, Any] | None
    steps: tuple[StepDefinition, ...]

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"

    @cached_property
    def shape(self) -> Shape:
        """Which step waits for which."""
        names = [step.name for step in self.steps]
        place_of = {name: place for place, name in enumerate(names)}
        below = children(names, {step.name: step.depends_on for step in self.steps})
        return Shape(
            places={step.named_step_id: place for place, step in enumerate(self.steps)},
            parent_counts=tuple(len(set(step.depends_on)) for step in self.steps),
            children=tuple(tuple(place_of[each] for each in below[name]) for name in names),
            roots=tuple(place for place, step in enumerate(self.steps) if not step.depends_on),
        )


@dataclass(frozen=True, kw_only=True)
class NewStepDefinition:
    """One row of a definition to be written."""

    name: str
    position: int
    is_leaf: bool
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewDefinition:
    """A definition to be written."""

    namespace: str
    name: str
    version: str
    description: str
    template: dict[str, Any]
    template_digest: str
    input_schema: dict[str, Any] | None
    steps: tuple[NewStepDefinition, ...]
    inline: bool = False  # it comes with a task, and is not published


class Identified(NamedTuple):
    """Which definition a name means, and the digest of what it says."""

    named_task_id: NamedTaskId
    template_digest: str


def identify(
    connection: Connection, *, namespace: str, name: str, version: str | None
) -> Identified | None:
    """The id and digest of a definition by name; the newest published when `version` is None.

    A version that came inline with a task is found by its very name alone.
    """
    values = {"namespace": namespace, "name": name, "version": version}
    found = rows(connection, "find_named_task", values)
    if not found:
        return None
    return Identified(NamedTaskId(found[0].named_task_id), found[0].template_digest)


def expect(
    connection: Connection,
    identified: Identified,
    *,
    namespace: str,
    name: str,
    version: str | None,
) -> None:
    """Build on it that `identify` would say this again; nobody waits to see it.

    If not, whoever waits or commits meets StaleWriteError.
    """
    values = {"namespace": namespace, "name": name, "version": version}
    told = {"named_task_id": identified.named_task_id, "digest": identified.template_digest}
    send(connection, "same_named_task", values | told)


def load(connection: Connection, named_task_id: NamedTaskId) -> Definition:
    """A definition by id."""
    task = connection.execute(
        select(NamedTask, Namespace.name.label("namespace"))
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(NamedTask.named_task_id == named_task_id)
    ).one()
    steps = connection.execute(
        select(NamedTaskStep, NamedStep.name)
        .join(NamedStep, NamedStep.named_step_id == NamedTaskStep.named_step_id)
        .where(NamedTaskStep.named_task_id == named_task_id)
        .order_by(NamedTaskStep.position)
    )
    name = TaskName(task.namespace, task.name, task.version)
    return Definition(
        named_task_id=named_task_id,
        namespace=task.namespace,
        name=task.name,
        version=task.version,
        template_digest=task.template_digest,
        input_schema=task.input_schema,
        steps=tuple(_step(row, name) for row in steps),
    )


def _step(row: Any, named_task: TaskName) -> StepDefinition:
    return StepDefinition(
        named_task_id=row.named_task_id,
        named_task=named_task,
        named_step_id=row.named_step_id,
        name=row.name,
        handler_class=HandlerClass(row.handler_class),
        handler_config=orjson.dumps(row.handler_config),
        depends_on=tuple(row.depends_on),
        retryable=row.retryable,
        retry_limit=row.retry_limit,
        backoff=Backoff(
            kind=BackoffKind(row.backoff),
            base_ms=row.backoff_base_ms,
            ceiling_ms=row.backoff_ceiling_ms,
        ),
        timeout_seconds=row.timeout_seconds,
        confirm_start=row.confirm_start,
    )


def names(connection: Connection, limit: int = 1_000) -> list[str]:
    """Full names of published definitions, for messages that suggest the nearest."""
    found = connection.execute(
        select(Namespace.name, NamedTask.name, NamedTask.version)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(NamedTask.inline.is_(False))
        .order_by(NamedTask.named_task_id.desc())
        .limit(limit)
    )
    return [f"{namespace}/{name}@{version}" for namespace, name, version in found]


def task_count(connection: Connection, named_task_id: NamedTaskId) -> int:
    """How many tasks are pinned to a definition; counts no further than PINNED_COUNT_MAX."""
    some = (
        select(Task.task_id)
        .where(Task.named_task_id == named_task_id)
        .limit(PINNED_COUNT_MAX)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def publish(connection: Connection, new: NewDefinition, *, now: datetime) -> NamedTaskId:
    """Write a definition that is not there yet."""
    namespace_id = _ensure_namespace(connection, new.namespace, now)
    named_task_id: int = connection.execute(
        insert(NamedTask)
        .values(
            task_namespace_id=namespace_id,
            name=new.name,
            version=new.version,
            inline=new.inline,
            **_task_values(new),
            created_at=now,
        )
        .returning(NamedTask.named_task_id)
    ).scalar_one()
    _write_steps(connection, NamedTaskId(named_task_id), new.steps, now=now)
    return NamedTaskId(named_task_id)


def replace(
    connection: Connection, named_task_id: NamedTaskId, new: NewDefinition, *, now: datetime
) -> None:
    """Write a definition over one that no task is pinned to."""
    connection.execute(
        NamedTask.__table__.update()  # type: ignore[attr-defined]
        .where(NamedTask.named_task_id == named_task_id)
        .values(**_task_values(new))
    )
    connection.execute(
        NamedTaskStep.__table__.delete().where(  # type: ignore[attr-defined]
            NamedTaskStep.named_task_id == named_task_id
        )
    )
    _write_steps(connection, named_task_id, new.steps, now=now)


def _task_values(new: NewDefinition) -> dict[str, Any]:
    return {
        "description": new.description,
        "template": new.template,
        "template_digest": new.template_digest,
        "input_schema": new.input_schema,
        "step_count": len(new.steps),
        "leaf_count": sum(step.is_leaf for step in new.steps),
    }


def _ensure_namespace(connection: Connection, name: str, now: datetime) -> int:
    connection.execute(
        insert(Namespace)
        .values(name=name, created_at=now)
        .on_conflict_do_nothing(index_elements=["name"])
    )
    found: int = connection.execute(
        select(Namespace.task_namespace_id).where(Namespace.name == name)
    ).scalar_one()
    return found


def _write_steps(
    connection: Connection,
    named_task_id: NamedTaskId,
    steps: Sequence[NewStepDefinition],
    *,
    now: datetime,
) -> None:
    """All rows in two statements: a template may have thousands of steps."""
    positions = {step.name: step.position for step in steps}
    given = [
        {
            "name": step.name,
            "position": step.position,
            "is_leaf": step.is_leaf,
            "parent_positions": [positions[parent] for parent in step.values["depends_on"]],
            **step.values,
        }
        for step in steps
    ]
    connection.execute(_WRITE_NAMES, {"names": sorted(positions), "now": now})
    values = {"named_task_id": named_task_id, "steps": orjson.dumps(given).decode()}
    connection.execute(_WRITE_STEPS, values)
