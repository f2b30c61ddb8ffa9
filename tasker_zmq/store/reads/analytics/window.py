"""What a question of analytics is about, and how it is put to the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from tasker_zmq.clock import uuid7_floor

ROWS_READ_MAX: Final = 100_000  # of one table, about a tenth of a second
# Bitmaps are priced out for hot statements; here they are how an index by time is read.
_LOOK_WIDELY: Final = text("SELECT set_config('enable_bitmapscan', 'on', true)")


@dataclass(frozen=True, kw_only=True)
class Window:
    """From a moment to another, with filters; `limit` rows are wanted, `rows_max` may be read."""

    since: datetime
    until: datetime
    now: datetime
    namespace: str | None = None
    name: str | None = None
    worker: str | None = None
    command_type: str | None = None
    limit: int = 50
    rows_max: int = ROWS_READ_MAX

    @property
    def minutes(self) -> float:
        return max((self.until - self.since).total_seconds() / 60, 1e-9)

    def values(self) -> dict[str, Any]:
        """For statements; batches are found by the time in their UUIDv7."""
        return {
            "since": self.since,
            "until": self.until,
            "now": self.now,
            "first_uuid": uuid7_floor(self.since),
            "last_uuid": uuid7_floor(self.until),
            "namespace": self.namespace,
            "name": self.name,
            "worker": self.worker,
            "command_type": self.command_type,
            "limit": self.limit,
            "rows_max": self.rows_max,
            "minutes": self.minutes,
        }


@dataclass(frozen=True)
class Found:
    """Rows as mappings; `truncated`: figures are of the newest rows only."""

    rows: Sequence[dict[str, Any]]
    truncated: bool = False


def look_widely(connection: Connection) -> None:
    """For this transaction: plans may read ranges of an index in the order of the table."""
    connection.execute(_LOOK_WIDELY)


def found(connection: Connection, statement: str, window: Window) -> Found:
    """Run a statement whose rows carry `rows_read`, which is taken off them."""
    values = {name: value for name, value in window.values().items() if f":{name}" in statement}
    rows = [dict(row) for row in connection.execute(text(statement), values).mappings()]
    read = [row.pop("rows_read") for row in rows]
    return Found(rows, truncated=bool(read) and read[0] >= window.rows_max)
