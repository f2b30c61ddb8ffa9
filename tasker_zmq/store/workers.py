"""Workers, their sessions, and cores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from tasker_zmq.domain.ids import CoreId, RegistrationId, SessionId
from tasker_zmq.store import reachability
from tasker_zmq.store.notifications import notify
from tasker_zmq.store.statements import rows, run
from tasker_zmq.store.tables import Core, Registration, RegistrationStatus

CORES_CHANNEL: Final = "tasker_cores"  # of NOTIFY, when a core begins, or gives up its work
STARTED: Final = " started"  # after the name of one that begins
_NAME_KEY: Final = "hashtextextended('tasker_zmq core ' || CAST(:core_id AS text), 0)"


@dataclass(frozen=True, kw_only=True)
class KnownCore:
    """A core that lives, or once did; `commands` is where others reach it, if it said so."""

    core_id: CoreId
    commands: str | None
    lease_expires_at: datetime


class Beat(NamedTuple):
    """A session's last sign of life."""

    load: int
    at: datetime
    credit: int


@dataclass(frozen=True, kw_only=True)
class NewRegistration:
    """A session about to begin."""

    worker_name: str
    session_id: SessionId
    core_id: CoreId
    connection_type: str
    connection_details: dict[str, Any]
    protocol_version: str
    handlers: tuple[str, ...]
    credit: int
    metadata: dict[str, Any]
    declared_tasks: Sequence[dict[str, Any]] = ()
    exclusive: bool = False


def register(
    connection: Connection, new: NewRegistration, *, now: datetime
) -> tuple[int, RegistrationId]:
    """Write worker and session; returns the worker's and the registration's id."""
    values = {
        "worker_name": new.worker_name,
        "metadata": orjson.dumps(new.metadata).decode(),
        "declared_tasks": orjson.dumps(list(new.declared_tasks)).decode(),
        "exclusive": new.exclusive,
        "session_id": new.session_id,
        "core_id": new.core_id,
        "connection_type": new.connection_type,
        "connection_details": orjson.dumps(new.connection_details).decode(),
        "protocol_version": new.protocol_version,
        "handlers": orjson.dumps(new.handlers).decode(),
        "credit": new.credit,
        "now": now,
    }
    (row,) = rows(connection, "register_worker", values)
    return row.worker_id, RegistrationId(row.registration_id)


def beat(
    connection: Connection,
    beats: Mapping[SessionId, Beat],
    *,
    status: str = "healthy",
) -> None:
    """Write the heartbeats that came since the last time."""
    if not beats:
        return
    ordered = sorted(beats.items())
    run(
        connection,
        "record_heartbeats",
        {
            "session_ids": [session_id for session_id, _ in ordered],
            "loads": [each.load for _, each in ordered],
            "moments": [each.at for _, each in ordered],
            "credits": [each.credit for _, each in ordered],
            "status": status,
        },
    )


def mark_unhealthy(connection: Connection, session_ids: Sequence[SessionId]) -> None:
    """Mark sessions of which nothing was heard for a while; a heartbeat makes them healthy."""
    connection.execute(
        update(Registration)
        .where(Registration.session_id.in_(session_ids), Registration.unregistered_at.is_(None))
        .values(status=RegistrationStatus.UNHEALTHY)
    )


def sessions_of(
    connection: Connection, worker_id: int, session_ids: Sequence[SessionId]
) -> set[SessionId]:
    """Those of the sessions that were this worker's."""
    values = {"session_ids": list(session_ids), "worker_id": worker_id}
    return {SessionId(row.session_id) for row in rows(connection, "sessions_of_worker", values)}


def processes_of(
    connection: Connection, session_ids: Sequence[SessionId]
) -> dict[SessionId, tuple[int, str]]:
    """The worker, and the instance that its process gave itself, of those sessions that told it."""
    instance = Registration.connection_details["instance"].astext
    chosen = select(Registration.session_id, Registration.worker_id, instance).where(
        Registration.session_id.in_(session_ids), instance.is_not(None)
    )
    found = connection.execute(chosen)
    return {SessionId(row[0]): (row[1], row[2]) for row in found}


def close_sessions(
    connection: Connection, session_ids: Sequence[SessionId], *, now: datetime
) -> None:
    """Mark sessions as disconnected."""
    run(connection, "close_sessions", {"session_ids": list(session_ids), "now": now})


def close_sessions_of(connection: Connection, core_id: CoreId, *, now: datetime) -> None:
    """Mark all sessions of a core as disconnected: a starting core knows none."""
    connection.execute(
        update(Registration)
        .where(Registration.core_id == core_id, Registration.unregistered_at.is_(None))
        .values(status=RegistrationStatus.DISCONNECTED, unregistered_at=now)
    )


def start_core(
    connection: Connection,
    core_id: CoreId,
    endpoints: dict[str, Any],
    *,
    now: datetime,
    lease_seconds: float,
    predecessor_gone: bool = False,
) -> int | None:
    """Take a core's name for this process: the new epoch, or None while another holds it.

    A predecessor that is known to be gone need not be waited for until its lease ends.
    """
    lease = now + timedelta(seconds=lease_seconds)
    statement = insert(Core).values(
        core_id=core_id, epoch=1, endpoints=endpoints, lease_expires_at=lease, started_at=now
    )
    epoch: int | None = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["core_id"],
            set_={
                "epoch": Core.epoch + 1,
                "endpoints": endpoints,
                "lease_expires_at": lease,
                "started_at": now,
                "draining": False,
            },
            where=or_(Core.lease_expires_at <= now, literal(predecessor_gone)),
        ).returning(Core.epoch)
    ).scalar()
    if epoch is not None:
        notify(connection, CORES_CHANNEL, f"{core_id}{STARTED}")
    return epoch


def hold_name(connection: Connection, core_id: CoreId) -> None:
    """Mark on this very connection that its process is alive: the mark goes when it ends."""
    connection.execute(text(f"SELECT pg_try_advisory_lock({_NAME_KEY})"), {"core_id": core_id})


def name_is_free(connection: Connection, core_id: CoreId) -> bool:
    """Whether no living process holds the name, whatever its lease says; until the commit."""
    query = text(f"SELECT pg_try_advisory_xact_lock({_NAME_KEY})")
    return bool(connection.execute(query, {"core_id": core_id}).scalar())


def lease_of(connection: Connection, core_id: CoreId) -> datetime | None:
    """Until when a core's name is taken."""
    return connection.execute(select(Core.lease_expires_at).where(Core.core_id == core_id)).scalar()


def renew_core(
    connection: Connection, core_id: CoreId, epoch: int, *, now: datetime, lease_seconds: float
) -> bool:
    """Extend the lease; False when another process took the name."""
    return bool(
        connection.execute(
            update(Core)
            .where(Core.core_id == core_id, Core.epoch == epoch)
            .values(lease_expires_at=now + timedelta(seconds=lease_seconds))
        ).rowcount
    )


def known(connection: Connection) -> list[KnownCore]:
    """All cores that ever ran and were not forgotten, by name."""
    commands = Core.endpoints["commands"].astext.label("commands")
    chosen = select(Core.core_id, commands, Core.lease_expires_at).order_by(Core.core_id)
    return [KnownCore(**row) for row in connection.execute(chosen).mappings()]


def living_cores(connection: Connection, *, now: datetime) -> dict[str, str]:
    """The cores that run, each with the address at which it takes commands."""
    chosen = select(Core.core_id, Core.endpoints).where(Core.lease_expires_at > now)
    return {
        row.core_id: str(row.endpoints.get("commands", "")) for row in connection.execute(chosen)
    }


def fence(connection: Connection, *, core_id: CoreId, now: datetime) -> bool:
    """Shut out other cores that are dead and own work; whether there are any.

    Behind it no process of theirs, however long it slept, gets through a tick any more.
    """
    return bool(rows(connection, "fence_cores", {"core_id": core_id, "now": now}))


def end_core(connection: Connection, core_id: CoreId, epoch: int, *, now: datetime) -> None:
    """Give the name back at once: nobody need wait for the lease, and other cores are told."""
    notify(connection, CORES_CHANNEL, core_id)
    ended = connection.execute(
        update(Core)
        .where(Core.core_id == core_id, Core.epoch == epoch)
        .values(lease_expires_at=now, draining=True)
    )
    if ended.rowcount:
        reachability.forget(connection, core_id)
