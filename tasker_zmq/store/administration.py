"""What people decided about workers, as rows."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from tasker_zmq.domain.administration import Administration, Pin, WorkerMode
from tasker_zmq.domain.ids import HandlerClass, TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.store.notifications import notify
from tasker_zmq.store.statements import Row
from tasker_zmq.store.tables import Core, Registration, Task, Worker, WorkerPin

CHANNEL: Final = "tasker_workers"  # of NOTIFY, when something was decided
NAMES_MAX: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Who decided, and why."""

    by: str
    why: str
    now: datetime


def load(connection: Connection) -> Administration:
    """All that holds now."""
    modes = connection.execute(
        select(Worker.worker_name, Worker.mode).where(Worker.mode != WorkerMode.ENABLED)
    )
    pins = connection.execute(
        select(WorkerPin, Worker.worker_name)
        .join(Worker, Worker.worker_id == WorkerPin.worker_id)
        .order_by(WorkerPin.pin_id)
    )
    return Administration(
        modes={row.worker_name: WorkerMode(row.mode) for row in modes},
        pins=tuple(_pin(row) for row in pins),
    )


def _pin(row: Row) -> Pin:
    return Pin(
        worker_name=row.worker_name,
        namespace=row.namespace,
        task_name=row.task_name,
        version=row.version,
        handler_class=None if row.handler_class is None else HandlerClass(row.handler_class),
        task_id=None if row.task_id is None else TaskId(row.task_id),
    )


def worker_id_of(connection: Connection, worker_name: str) -> int | None:
    """The worker of that name, held until the commit: two who decide do so in turn."""
    chosen = select(Worker.worker_id).where(Worker.worker_name == worker_name)
    return connection.execute(chosen.with_for_update()).scalar()


def nearest(connection: Connection, worker_name: str) -> str | None:
    """The name of a known worker that is most like this one."""
    known = connection.execute(select(Worker.worker_name).limit(NAMES_MAX)).scalars()
    return next(iter(difflib.get_close_matches(worker_name, list(known), n=1, cutoff=0.4)), None)


def cores_of(connection: Connection, worker_name: str, *, now: datetime) -> list[str]:
    """The living cores that the worker is connected to."""
    chosen = (
        select(Registration.core_id)
        .distinct()
        .join(Worker, Worker.worker_id == Registration.worker_id)
        .join(Core, Core.core_id == Registration.core_id)
        .where(
            Worker.worker_name == worker_name,
            Registration.unregistered_at.is_(None),
            Core.lease_expires_at > now,
        )
        .order_by(Registration.core_id)
    )
    return list(connection.execute(chosen).scalars())


def set_mode(connection: Connection, worker_id: int, mode: WorkerMode, *, decided: Decided) -> None:
    """Drain, disable or enable a worker; all cores are told with the commit."""
    connection.execute(
        update(Worker)
        .where(Worker.worker_id == worker_id)
        .values(mode=mode, mode_by=decided.by, mode_why=decided.why, mode_at=decided.now)
    )
    notify(connection, CHANNEL, "")


def add_pin(connection: Connection, worker_id: int, pin: Pin, *, decided: Decided) -> None:
    """Give steps to this worker alone; all cores are told with the commit."""
    connection.execute(
        insert(WorkerPin).values(
            worker_id=worker_id,
            namespace=pin.namespace,
            task_name=pin.task_name,
            version=pin.version,
            handler_class=pin.handler_class,
            task_id=pin.task_id,
            decided_by=decided.by,
            why=decided.why,
            created_at=decided.now,
        )
    )
    notify(connection, CHANNEL, "")


@dataclass(frozen=True, kw_only=True)
class TaskPin:
    """One task for one worker alone."""

    worker_id: int
    task_id: TaskId
    decided: Decided


def pin_tasks(connection: Connection, pins: Sequence[TaskPin]) -> None:
    """Give tasks to workers, each to one alone; all cores are told with the commit."""
    connection.execute(
        insert(WorkerPin).values(
            [
                {
                    "worker_id": each.worker_id,
                    "task_id": each.task_id,
                    "decided_by": each.decided.by,
                    "why": each.decided.why,
                    "created_at": each.decided.now,
                }
                for each in pins
            ]
        )
    )
    notify(connection, CHANNEL, "")


def pins_count(connection: Connection) -> int:
    """How many pins there are."""
    return connection.execute(select(func.count()).select_from(WorkerPin)).scalar_one()


def forget_ended(connection: Connection) -> None:
    """Take back the pins of tasks that will never run again."""
    may_run = (Task.completed_at.is_(None)) | (Task.state == TaskState.ERROR)
    wanted = select(Task.task_id).where(Task.task_id == WorkerPin.task_id, may_run).exists()
    connection.execute(delete(WorkerPin).where(WorkerPin.task_id.is_not(None), ~wanted))


def worker_by(connection: Connection, wanted: int | str) -> tuple[int, str] | None:
    """The id and name of a worker, by either."""
    is_it = Worker.worker_id == wanted if isinstance(wanted, int) else Worker.worker_name == wanted
    found = connection.execute(
        select(Worker.worker_id, Worker.worker_name).where(is_it)
    ).one_or_none()
    return None if found is None else (found.worker_id, found.worker_name)


def remove_pins(connection: Connection, worker_id: int) -> int:
    """Take all pins of a worker back; how many there were."""
    removed = connection.execute(delete(WorkerPin).where(WorkerPin.worker_id == worker_id))
    notify(connection, CHANNEL, "")
    return removed.rowcount
