"""Which core reaches which worker, by which transport."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select

from tasker_zmq.domain.ids import CoreId
from tasker_zmq.store.statements import run
from tasker_zmq.store.tables import Core, Reachability

TRANSPORT: Final = "zeromq"
UNKNOWN_AFTER: Final = timedelta(minutes=5)  # as tasker_candidate_workers has it


def is_known(now: datetime) -> ColumnElement[bool]:
    """Whether a row was verified lately: what it says counts."""
    return Reachability.last_verified_at > now - UNKNOWN_AFTER


def record(
    connection: Connection, core_id: CoreId, told: Mapping[str, bool | None], *, now: datetime
) -> None:
    """Write for these workers, by name, whether the core reaches them; None: that is not known."""
    if not told:
        return
    names = sorted(told)
    run(
        connection,
        "record_reachability",
        {
            "worker_names": names,
            "reachable": [told[name] for name in names],
            "core_id": core_id,
            "transport": TRANSPORT,
            "now": now,
        },
    )


def forget(connection: Connection, core_id: CoreId) -> None:
    """A core that starts, or ends, reaches nobody."""
    connection.execute(delete(Reachability).where(Reachability.core_id == core_id))


def forget_dead(connection: Connection, *, now: datetime) -> None:
    """Neither does one whose lease is over."""
    dead = select(Core.core_id).where(Core.lease_expires_at <= now)
    connection.execute(delete(Reachability).where(Reachability.core_id.in_(dead)))
