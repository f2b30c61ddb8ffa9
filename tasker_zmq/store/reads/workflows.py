"""Workflows: which named tasks are published, and one of them with its steps."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select

from tasker_zmq.domain.ids import HandlerClass, NamedTaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES, TaskState
from tasker_zmq.domain.template import Backoff, BackoffKind, StepTemplate, TaskTemplate
from tasker_zmq.store.reads.tasks import full_name
from tasker_zmq.store.tables import NamedStep, NamedTask, NamedTaskStep, Namespace, Task


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published workflow as it runs; `template.source` is what its author gave."""

    named_task_id: NamedTaskId
    template: TaskTemplate
    template_digest: str
    created_at: datetime
    tasks: dict[str, int]


def listed(
    connection: Connection, *, namespace: str | None = None, inline: bool = False
) -> list[dict[str, Any]]:
    """Every published named task, by name, its newest version first, with how many tasks run it.

    With `inline` also those that came with a task.
    """
    counted = (
        select(
            Task.named_task_id,
            func.count().label("tasks"),
            func.count(case((Task.state.in_(OPEN_TASK_STATES), 1))).label("open_tasks"),
            func.count(case((Task.state == TaskState.ERROR, 1))).label("failed_tasks"),
        )
        .group_by(Task.named_task_id)
        .subquery()
    )
    chosen = (
        select(
            full_name().label("workflow"),
            NamedTask.named_task_id,
            NamedTask.description,
            NamedTask.step_count,
            func.coalesce(counted.c.tasks, 0).label("tasks"),
            func.coalesce(counted.c.open_tasks, 0).label("open_tasks"),
            func.coalesce(counted.c.failed_tasks, 0).label("failed_tasks"),
            NamedTask.created_at,
        )
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .outerjoin(counted, counted.c.named_task_id == NamedTask.named_task_id)
        .order_by(Namespace.name, NamedTask.name, NamedTask.named_task_id.desc())
    )
    if namespace is not None:
        chosen = chosen.where(Namespace.name == namespace)
    if not inline:
        chosen = chosen.where(NamedTask.inline.is_(False))
    return [dict(row) for row in connection.execute(chosen).mappings()]


def find(
    connection: Connection, *, namespace: str | None, name: str, version: str | None
) -> list[NamedTaskId]:
    """For each namespace that has a named task of that name, its newest version."""
    chosen = (
        select(NamedTask.task_namespace_id, NamedTask.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(NamedTask.name == name)
        .order_by(NamedTask.task_namespace_id, NamedTask.named_task_id)
    )
    if namespace is not None:
        chosen = chosen.where(Namespace.name == namespace)
    if version is not None:
        chosen = chosen.where(NamedTask.version == version)
    else:
        chosen = chosen.where(NamedTask.inline.is_(False))
    newest = {row.task_namespace_id: row.named_task_id for row in connection.execute(chosen)}
    return [NamedTaskId(each) for each in newest.values()]


def show(connection: Connection, named_task_id: NamedTaskId) -> Published:
    """One workflow by its id."""
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
    states = connection.execute(
        select(Task.state, func.count().label("tasks"))
        .where(Task.named_task_id == named_task_id)
        .group_by(Task.state)
        .order_by(Task.state)
    )
    return Published(
        named_task_id=named_task_id,
        template=TaskTemplate(
            namespace=task.namespace,
            name=task.name,
            version=task.version,
            description=task.description,
            input_schema=task.input_schema,
            source=task.template,
            steps=tuple(_step(row) for row in steps),
        ),
        template_digest=task.template_digest,
        created_at=task.created_at,
        tasks={row.state: row.tasks for row in states},
    )


def _step(row: Any) -> StepTemplate:
    return StepTemplate(
        name=row.name,
        handler_class=HandlerClass(row.handler_class),
        handler_config=row.handler_config,
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
