"""Which daemons there are, and what the server itself says of its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, text

from tasker_zmq.store.schema import PARTITIONED
from tasker_zmq.store.tables import (
    Core,
)

WEEKS_LOOKED_AT: Final = 5


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What a PostgreSQL server says of itself; `version` as in 170004."""

    version: int
    read_only: bool
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    clock: datetime


def cores(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """The daemons that this database has known; `alive`: the lease has not ended."""
    chosen = select(
        Core.core_id,
        (Core.lease_expires_at > now).label("alive"),
        Core.epoch,
        Core.draining,
        Core.endpoints,
        Core.started_at,
        Core.lease_expires_at,
    ).order_by(Core.core_id)
    return [dict(row) for row in connection.execute(chosen).mappings()]


def server_facts(connection: Connection) -> ServerFacts:
    row = connection.execute(
        text(
            "SELECT CAST(current_setting('server_version_num') AS integer) AS version, "
            "pg_is_in_recovery() AS read_only, current_setting('fsync') AS fsync, "
            "current_setting('synchronous_commit') AS synchronous_commit, "
            "current_setting('full_page_writes') AS full_page_writes, clock_timestamp() AS clock"
        )
    ).one()
    return ServerFacts(
        version=row.version,
        read_only=row.read_only,
        fsync=row.fsync,
        synchronous_commit=row.synchronous_commit,
        full_page_writes=row.full_page_writes,
        clock=row.clock,
    )


def weeks_ahead(connection: Connection, *, now: datetime) -> Mapping[str, int]:
    """For each partitioned table the weeks in a row, this one first, that have a partition."""
    found = connection.execute(
        text(
            "SELECT parent, week, to_regclass(parent || to_char(date_trunc('week', "
            "CAST(:now AS timestamptz) AT TIME ZONE 'UTC') + week * interval '7 days', "
            '\'"_p"IYYY"w"IW\')) IS NOT NULL AS made '
            "FROM unnest(CAST(:parents AS text[])) AS parent, "
            "generate_series(0, CAST(:weeks AS integer) - 1) AS week ORDER BY parent, week"
        ),
        {"now": now, "parents": list(PARTITIONED), "weeks": WEEKS_LOOKED_AT},
    )
    weeks = dict.fromkeys(PARTITIONED, 0)
    for row in found:
        if row.made and weeks[row.parent] == row.week:
            weeks[row.parent] += 1
    return weeks
