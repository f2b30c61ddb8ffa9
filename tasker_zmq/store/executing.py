"""A task that somebody wants run now, as a row: held, claimed, its steps counted."""

from datetime import datetime

from sqlalchemy import Connection, func, select, update

from tasker_zmq.domain.executing import TaskAsked
from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.store.tables import Core, NamedTask, Namespace, Task, WorkflowStep


def hold(connection: Connection, task_id: TaskId, *, now: datetime) -> TaskAsked | None:
    """The task, locked until the commit; None if there is none."""
    alive = select(Core.lease_expires_at > now).where(Core.core_id == Task.processing_core_id)
    chosen = (
        select(
            Task.task_id,
            Namespace.name.label("namespace"),
            Task.state,
            Task.paused,
            Task.scheduled_for,
            Task.processing_core_id,
            func.coalesce(alive.scalar_subquery(), False).label("core_alive"),
        )
        .join(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(Task.task_id == task_id)
    )
    row = connection.execute(chosen.with_for_update(of=Task, key_share=True)).one_or_none()
    if row is None:
        return None
    return TaskAsked(
        task_id=TaskId(row.task_id),
        namespace=row.namespace,
        state=TaskState(row.state),
        paused=row.paused,
        scheduled_for=row.scheduled_for,
        core_id=row.processing_core_id,
        core_alive=row.core_alive,
    )


def own(connection: Connection, task: TaskAsked, *, core_id: CoreId, now: datetime) -> None:
    """Make a task that is held and nobody's this core's, to begin now at the latest."""
    at = task.scheduled_for
    connection.execute(
        update(Task)
        .where(Task.task_id == task.task_id)
        .values(
            processing_core_id=core_id,
            claimed_at=now,
            scheduled_for=None if at is None else min(at, now),
        )
    )


def steps_by_state(connection: Connection, task_id: TaskId) -> dict[str, int]:
    """How many steps of the task stand in each state."""
    chosen = (
        select(WorkflowStep.state, func.count().label("steps"))
        .where(WorkflowStep.task_id == task_id)
        .group_by(WorkflowStep.state)
        .order_by(WorkflowStep.state)
    )
    return {row.state: row.steps for row in connection.execute(chosen)}
