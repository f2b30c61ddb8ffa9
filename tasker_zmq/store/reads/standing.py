"""What explains why a task waits: the daemon that owns it, the workers that are there."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.domain.breaker import BreakerState
from tasker_zmq.domain.explanation import StepStanding, TaskStanding
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.domain.supported import Association, Declared
from tasker_zmq.domain.waiting import LiveSession
from tasker_zmq.store import administration, breakers, reachability
from tasker_zmq.store.tables import Core, Reachability, Registration, RegistrationStatus, Worker


def standing(connection: Connection, shown: Mapping[str, Any], *, now: datetime) -> TaskStanding:
    """How a task stands that `reads.tasks.show` has shown."""
    return TaskStanding(
        state=TaskState(shown["state"]),
        paused=shown["paused"],
        core_id=shown["core_id"],
        core_alive=_is_alive(connection, shown["core_id"], now),
        requested_at=shown["requested_at"],
        completed_at=shown["completed_at"],
        scheduled_for=shown["scheduled_for"],
        steps=tuple(_step(step) for step in shown["steps"]),
        sessions=live_sessions(connection, now=now),
        task_id=shown["task_id"],
        named_task=_task_name(shown["workflow"]),
        administration=administration.load(connection),
    )


def _task_name(full_name: str) -> TaskName:
    name, _, version = full_name.rpartition("@")
    namespace, _, task_name = name.partition("/")
    return TaskName(namespace, task_name, version)


def live_sessions(connection: Connection, *, now: datetime) -> tuple[LiveSession, ...]:
    """Workers that a running daemon has connected."""
    chosen = (
        select(
            Worker.worker_name,
            Worker.mode,
            Worker.exclusive,
            Worker.declared_tasks,
            Registration.core_id,
            Registration.status,
            Reachability.is_reachable,
            Registration.handlers,
            Registration.credit,
            Registration.current_load,
        )
        .join(Registration, Registration.worker_id == Worker.worker_id)
        .join(Core, Core.core_id == Registration.core_id)
        .outerjoin(
            Reachability,
            (Reachability.worker_id == Registration.worker_id)
            & (Reachability.core_id == Registration.core_id)
            & (Reachability.transport_type == Registration.connection_type)
            & reachability.is_known(now),
        )
        .where(Registration.status != RegistrationStatus.DISCONNECTED, Core.lease_expires_at > now)
        .order_by(Worker.worker_name)
    )
    next_tries = _next_tries(connection, now)
    out_of_reach = _out_of_reach(connection, now=now)
    return tuple(
        LiveSession(
            worker=row.worker_name,
            handlers=frozenset(row.handlers),
            has_room=row.current_load < row.credit,
            core_id=row.core_id,
            mode=WorkerMode(row.mode),
            silent=row.status == RegistrationStatus.UNHEALTHY,
            deaf=row.is_reachable is False,
            not_reached_by=out_of_reach.get(row.worker_name, frozenset()),
            declared=_declared(row.declared_tasks, exclusive=row.exclusive),
            next_tries=next_tries.get(row.worker_name, {}),
        )
        for row in connection.execute(chosen)
    )


def _next_tries(connection: Connection, now: datetime) -> dict[str, dict[str, datetime | None]]:
    """By worker and handler, when an open breaker lets a step through; None: it would now."""
    found: dict[str, dict[str, datetime | None]] = {}
    for pair, breaker in breakers.load(connection, now=now).items():
        is_open = breaker.state(now) is BreakerState.OPEN
        of_worker = found.setdefault(pair.worker_name, {})
        of_worker[pair.handler_class] = breaker.next_try_at if is_open else None
    return found


def _out_of_reach(connection: Connection, *, now: datetime) -> dict[str, frozenset[str]]:
    """By worker, the cores that lately found that they do not reach it."""
    chosen = (
        select(Worker.worker_name, func.array_agg(Reachability.core_id.distinct()).label("cores"))
        .join(Reachability, Reachability.worker_id == Worker.worker_id)
        .where(Reachability.is_reachable.is_(False), reachability.is_known(now))
        .group_by(Worker.worker_name)
    )
    return {row.worker_name: frozenset(row.cores) for row in connection.execute(chosen)}


def _declared(said: Sequence[Mapping[str, Any]], *, exclusive: bool) -> Declared:
    names = [TaskName(each["namespace"], each["name"], each["version"]) for each in said]
    return Declared(tasks=dict.fromkeys(names, Association()), exclusive=exclusive)


def _is_alive(connection: Connection, core_id: str | None, now: datetime) -> bool:
    """Whether the task's owner runs; any other that runs will claim what nobody owns."""
    running = select(Core.core_id).where(Core.lease_expires_at > now)
    alive = set(connection.execute(running).scalars())
    return core_id in alive or bool(alive and core_id is None)


def _step(step: Mapping[str, Any]) -> StepStanding:
    return StepStanding(
        name=step["name"],
        state=StepState(step["state"]),
        parents=tuple(step["parents"]),
        handler_class=step["handler_class"] or "",
        attempts=step["attempts"],
        tries=step["tries"] if step["retryable"] else 1,
        worker=step["worker"],
        worker_gone=step["session_status"] == RegistrationStatus.DISCONNECTED,
        started_at=step["started_at"],
        next_attempt_at=step["next_attempt_at"],
        error=error_text(step["error"]),
    )


def error_text(error: Any) -> str:
    """`error_type: message` of a stored step error, whatever a worker made of it."""
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    kind, message = error.get("error_type"), error.get("message")
    return ": ".join(str(part) for part in (kind, message) if part)
