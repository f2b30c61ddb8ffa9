"""Workers: who is connected, with what in hand, and what each can run."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from tasker_zmq.domain.breaker import Breaker, BreakerState
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.store import breakers, reachability
from tasker_zmq.store.reads.tasks import full_name
from tasker_zmq.store.tables import (
    Core,
    NamedTask,
    Namespace,
    Reachability,
    Registration,
    RegistrationStatus,
    SupportedTask,
    Worker,
    WorkerBreaker,
    WorkerPin,
)


def listed(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """One row per live session, and the last one of each worker that has none; live ones first.

    A worker has a session at each core; those of one process have one `instance`. `connected` is
    whether a running daemon has it: what is stored outlives a daemon that is killed.
    """
    live = Registration.status != RegistrationStatus.DISCONNECTED
    rank = func.row_number().over(
        partition_by=Registration.worker_id, order_by=Registration.registration_id.desc()
    )
    ranked = select(Registration.registration_id, rank.label("rank")).subquery()
    connected = live & func.coalesce(Core.lease_expires_at > now, False)
    chosen = (
        select(
            Worker.worker_id,
            Worker.worker_name,
            connected.label("connected"),
            Registration.status,
            Registration.session_id,
            Registration.core_id,
            Registration.protocol_version,
            Registration.connection_details["instance"].astext.label("instance"),
            Registration.handlers,
            Registration.credit,
            Registration.current_load,
            Registration.last_heartbeat_at,
            Registration.registered_at,
            Registration.unregistered_at,
            Worker.metadata_.label("metadata"),
            Worker.mode,
            Worker.exclusive,
        )
        .join(Worker, Worker.worker_id == Registration.worker_id)
        .join(ranked, ranked.c.registration_id == Registration.registration_id)
        .outerjoin(Core, Core.core_id == Registration.core_id)
        .where(live | (ranked.c.rank == 1))
        .order_by(connected.desc(), Worker.worker_name, Registration.core_id)
        .order_by(Registration.last_heartbeat_at.desc())
    )
    rows = [dict(row) for row in connection.execute(chosen).mappings()]
    tasks = _supported(connection, [row["worker_id"] for row in rows])
    opened: dict[str, list[str]] = {}
    for pair in sorted(breakers.load(connection, now=now)):
        opened.setdefault(pair.worker_name, []).append(pair.handler_class)
    return [
        {
            **row,
            "supported_tasks": tasks.get(row["worker_id"], []),
            "open_breakers": opened.get(row["worker_name"], []),
        }
        for row in rows
    ]


def show(connection: Connection, name: str, *, now: datetime) -> dict[str, Any] | None:
    """One worker with its live `sessions`, its `handlers`, the `tasks` it knows, and its `pins`.

    `reachability` has a row for each core that runs: `is_reachable` None where that is not known.
    """
    chosen = select(
        Worker.worker_id,
        Worker.worker_name,
        Worker.mode,
        Worker.mode_by,
        Worker.mode_why,
        Worker.mode_at,
        Worker.exclusive,
        Worker.created_at,
        Worker.updated_at,
        Worker.declared_tasks,
        Worker.metadata_.label("metadata"),
    ).where(Worker.worker_name == name)
    found = connection.execute(chosen).mappings().one_or_none()
    if found is None:
        return None
    sessions = _sessions(connection, found["worker_id"], now)
    return {
        **found,
        "sessions": sessions,
        "handlers": _handlers(connection, found["worker_id"], sessions, now=now),
        "tasks": _tasks(connection, found["worker_id"]),
        "pins": _pins(connection, found["worker_id"]),
        "reachability": _reachability(connection, found["worker_id"], now),
    }


def _sessions(connection: Connection, worker_id: int, now: datetime) -> list[dict[str, Any]]:
    chosen = (
        select(
            Registration.session_id,
            Registration.core_id,
            Registration.status,
            func.coalesce(Core.lease_expires_at > now, False).label("connected"),
            Registration.credit,
            Registration.current_load,
            Registration.handlers,
            Registration.last_heartbeat_at,
            Registration.registered_at,
        )
        .outerjoin(Core, Core.core_id == Registration.core_id)
        .where(Registration.worker_id == worker_id, Registration.unregistered_at.is_(None))
        .order_by(Registration.registration_id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _handlers(
    connection: Connection, worker_id: int, sessions: Sequence[dict[str, Any]], *, now: datetime
) -> list[dict[str, Any]]:
    """What it runs, or had a breaker for, by name; `breaker` is the state of that."""
    chosen = (
        select(
            WorkerBreaker.handler_class,
            WorkerBreaker.state.label("breaker"),
            WorkerBreaker.failures,
            WorkerBreaker.opened_at,
            WorkerBreaker.next_try_at,
            WorkerBreaker.closed_at,
            WorkerBreaker.last_error,
            WorkerBreaker.core_id,
        )
        .where(WorkerBreaker.worker_id == worker_id)
        .order_by(WorkerBreaker.handler_class)
    )
    found = {row["handler_class"]: dict(row) for row in connection.execute(chosen).mappings()}
    for row in found.values():
        known = Breaker(next_try_at=row["next_try_at"])
        if row["breaker"] == BreakerState.CLOSED or known.is_forgotten(now):
            row.update(breaker=BreakerState.CLOSED.value, next_try_at=None)
        else:
            row["breaker"] = known.state(now).value
    sound = {"breaker": BreakerState.CLOSED.value, "failures": 0, "next_try_at": None}
    for handler in {each for session in sessions for each in session["handlers"]} - found.keys():
        found[handler] = {"handler_class": handler, **sound}
    return [found[handler] for handler in sorted(found)]


def _tasks(connection: Connection, worker_id: int) -> list[dict[str, Any]]:
    chosen = (
        select(full_name().label("workflow"), SupportedTask.priority, SupportedTask.configuration)
        .join(NamedTask, NamedTask.named_task_id == SupportedTask.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(SupportedTask.worker_id == worker_id)
        .order_by(full_name())
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _pins(connection: Connection, worker_id: int) -> list[dict[str, Any]]:
    version = func.coalesce("@" + WorkerPin.version, "")
    chosen = (
        select(
            (WorkerPin.namespace + "/" + WorkerPin.task_name + version).label("named_task"),
            WorkerPin.handler_class,
            WorkerPin.task_id,
            WorkerPin.decided_by,
            WorkerPin.why,
            WorkerPin.created_at,
        )
        .where(WorkerPin.worker_id == worker_id)
        .order_by(WorkerPin.pin_id)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _reachability(connection: Connection, worker_id: int, now: datetime) -> list[dict[str, Any]]:
    found = (
        (Reachability.core_id == Core.core_id)
        & (Reachability.worker_id == worker_id)
        & reachability.is_known(now)
    )
    chosen = (
        select(
            Core.core_id,
            func.coalesce(Reachability.transport_type, reachability.TRANSPORT).label("transport"),
            Reachability.is_reachable,
            Reachability.last_verified_at,
        )
        .outerjoin(Reachability, found)
        .where(Core.lease_expires_at > now)
        .order_by(Core.core_id, Reachability.transport_type)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def still_open(connection: Connection, session_ids: Sequence[SessionId]) -> list[SessionId]:
    """Which of these sessions have not ended yet."""
    chosen = select(Registration.session_id).where(
        Registration.session_id.in_(session_ids), Registration.unregistered_at.is_(None)
    )
    return [SessionId(each) for each in connection.execute(chosen).scalars()]


def _supported(connection: Connection, worker_ids: Sequence[int]) -> dict[int, list[str]]:
    chosen = (
        select(SupportedTask.worker_id, full_name().label("workflow"))
        .join(NamedTask, NamedTask.named_task_id == SupportedTask.named_task_id)
        .join(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(SupportedTask.worker_id.in_(worker_ids))
        .order_by(SupportedTask.worker_id, full_name())
    )
    found: dict[int, list[str]] = {}
    for row in connection.execute(chosen):
        found.setdefault(row.worker_id, []).append(row.workflow)
    return found
