"""Questions: GetTask and ListTasks from a read-only session, HealthCheck from a snapshot."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.commands import GetTask, HealthCheck, ListTasks
from tasker_zmq.store.reads import tasks as reads


def get_task(connection: Connection, request: GetTask) -> dict[str, Any]:
    """One task with its context, its steps and its edges."""
    found = reads.show(connection, request.task_id)
    if found is None:
        raise CommandRefusedError("not_found", f"no task {request.task_id}")
    return found


def list_tasks(connection: Connection, request: ListTasks) -> dict[str, Any]:
    """Newest first; `next_before_task_id` asks for the page behind."""
    limit = max(1, min(request.limit, reads.LIMIT_MAX))
    wanted = reads.TaskFilter(
        namespace=request.namespace,
        name=request.name,
        state=request.state,
        limit=limit,
        before_task_id=request.before_task_id,
    )
    found = reads.listed(connection, wanted)
    more = found[-1]["task_id"] if len(found) == limit else None
    return {"tasks": found, "next_before_task_id": more}


def health(snapshot: Mapping[str, Any], _request: HealthCheck) -> Mapping[str, Any]:
    """What the daemon last noted of itself."""
    return snapshot
