"""Named locks for work that only one core should do: each a row that expires.

Owned by a core's process: its name and its epoch. All moments are the caller's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, or_
from sqlalchemy.dialects.postgresql import insert

from tasker_zmq.domain.ids import CoreId
from tasker_zmq.store.tables import CoordinationLock


@dataclass(frozen=True)
class Owner:
    """One life of a core."""

    core_id: CoreId
    epoch: int


def acquire(
    connection: Connection, name: str, owner: Owner, *, seconds: float, now: datetime
) -> bool:
    """Take a lock that is free or whose time is over, or renew one's own; whether it is owned.

    An earlier life of the same core gives way at once: it has ended, or it soon learns that it has.
    """
    fresh = insert(CoordinationLock).values(
        lock_name=name,
        owner_core_id=owner.core_id,
        owner_epoch=owner.epoch,
        acquired_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    ours = and_(
        CoordinationLock.owner_core_id == owner.core_id,
        CoordinationLock.owner_epoch <= owner.epoch,
    )
    taken = fresh.on_conflict_do_update(
        index_elements=["lock_name"],
        set_={
            "owner_core_id": fresh.excluded.owner_core_id,
            "owner_epoch": fresh.excluded.owner_epoch,
            "acquired_at": fresh.excluded.acquired_at,
            "expires_at": fresh.excluded.expires_at,
        },
        where=or_(CoordinationLock.expires_at <= now, ours),
    ).returning(CoordinationLock.lock_name)
    return connection.execute(taken).scalar() is not None


def release(connection: Connection, name: str, owner: Owner) -> bool:
    """Give a lock back; False when it is another's by now."""
    given = (
        delete(CoordinationLock)
        .where(
            CoordinationLock.lock_name == name,
            CoordinationLock.owner_core_id == owner.core_id,
            CoordinationLock.owner_epoch == owner.epoch,
        )
        .returning(CoordinationLock.lock_name)
    )
    return connection.execute(given).scalar() is not None
