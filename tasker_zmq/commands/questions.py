"""Questions: GetTask and ListTasks from a read-only session, HealthCheck from a snapshot."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.commands import GetTask, HealthCheck, ListTasks
from tasker_zmq.store.tables import NamedTask, Namespace, Task, WorkflowStep

LIMIT_MAX = 1_000

_COLUMNS = (
    Task.task_id,
    Task.state,
    Task.priority,
    Task.paused,
    Task.identity,
    Task.step_count,
    Task.requested_at,
    Task.completed_at,
    Task.error,
    Namespace.name.label("namespace"),
    NamedTask.name,
    NamedTask.version,
)


def _tasks() -> Any:
    return (
        select(*_COLUMNS)
        .join(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
    )


def get_task(connection: Connection, request: GetTask) -> dict[str, Any]:
    """One task with its context and its steps."""
    found = connection.execute(
        _tasks().add_columns(Task.context).where(Task.task_id == request.task_id)
    ).one_or_none()
    if found is None:
        raise CommandRefusedError("not_found", f"no task {request.task_id}")
    steps = connection.execute(
        select(
            WorkflowStep.workflow_step_id.label("step_id"),
            WorkflowStep.name,
            WorkflowStep.state,
            WorkflowStep.attempts,
            WorkflowStep.retry_limit,
            WorkflowStep.worker_name,
            WorkflowStep.started_at,
            WorkflowStep.finished_at,
            WorkflowStep.next_attempt_at,
            WorkflowStep.results,
            WorkflowStep.error,
        )
        .where(WorkflowStep.task_id == request.task_id)
        .order_by(WorkflowStep.workflow_step_id)
    )
    return {**found._mapping, "steps": [dict(row._mapping) for row in steps]}


def list_tasks(connection: Connection, request: ListTasks) -> dict[str, Any]:
    """Newest first; `next_before_task_id` asks for the page behind."""
    chosen = _tasks().order_by(Task.task_id.desc())
    filters = (
        (Namespace.name, request.namespace),
        (NamedTask.name, request.name),
        (Task.state, request.state),
    )
    for column, wanted in filters:
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    if request.before_task_id is not None:
        chosen = chosen.where(Task.task_id < request.before_task_id)
    limit = max(1, min(request.limit, LIMIT_MAX))
    rows = [dict(row._mapping) for row in connection.execute(chosen.limit(limit))]
    return {
        "tasks": rows,
        "next_before_task_id": rows[-1]["task_id"] if len(rows) == limit else None,
    }


def health(snapshot: Mapping[str, Any], _request: HealthCheck) -> Mapping[str, Any]:
    """What the daemon last noted of itself."""
    return snapshot
