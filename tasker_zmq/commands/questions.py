"""Questions: GetTask and ListTasks from a read-only session, HealthCheck from a snapshot."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.protocol.commands import (
    TASKS_PER_QUESTION_MAX,
    GetTask,
    GetTaskStates,
    HealthCheck,
    ListTasks,
    StateOfTask,
    TaskStates,
)
from tasker_zmq.protocol.tasks import QuerySteps
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.reads import steps as step_reads
from tasker_zmq.store.reads import tasks as reads


def get_task(connection: Connection, request: GetTask) -> dict[str, Any]:
    """One task with its context, its steps and its edges."""
    found = reads.show(connection, request.task_id)
    if found is None:
        raise CommandRefusedError("not_found", f"no task {request.task_id}")
    return found


def get_task_states(connection: Connection, request: GetTaskStates) -> TaskStates:
    """How tasks stand; cheap enough to be asked again and again by whoever waits for them."""
    _refuse_too_many(request)
    return states_among(step_store.states(connection, request.task_ids), request)


def _refuse_too_many(request: GetTaskStates) -> None:
    if len(request.task_ids) > TASKS_PER_QUESTION_MAX:
        raise CommandRefusedError(
            "invalid",
            f"{len(request.task_ids)} tasks, at most {TASKS_PER_QUESTION_MAX} at once",
            hint="ask for the others in another command",
        )


def states_among(found: Mapping[TaskId, str], request: GetTaskStates) -> TaskStates:
    """How the tasks stand that somebody waited for, of all that were looked at."""
    _refuse_too_many(request)
    return TaskStates(
        states=tuple(
            StateOfTask(task_id=task_id, state=TaskState(found[task_id]))
            for task_id in dict.fromkeys(request.task_ids)
            if task_id in found
        )
    )


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


def query_steps(connection: Connection, request: QuerySteps) -> dict[str, Any]:
    """Newest first; `next_before_step_id` asks for the page behind, until it is null.

    A page may hold less than was asked for, even nothing, and not be the last one: no question
    looks at more than so many rows.
    """
    if len(request.task_ids) > TASKS_PER_QUESTION_MAX:
        raise CommandRefusedError(
            "invalid",
            f"{len(request.task_ids)} tasks, at most {TASKS_PER_QUESTION_MAX} at once",
            hint="ask for the others in another command",
        )
    wanted = step_reads.StepFilter(
        task_ids=request.task_ids,
        state=request.state,
        handler=request.handler,
        namespace=request.namespace,
        limit=max(1, min(request.limit, reads.LIMIT_MAX)),
        before_step_id=request.before_step_id,
    )
    found, more = step_reads.listed(connection, wanted)
    return {"steps": found, "next_before_step_id": more}


def health(snapshot: Mapping[str, Any], _request: HealthCheck) -> Mapping[str, Any]:
    """What the daemon last noted of itself."""
    return snapshot
