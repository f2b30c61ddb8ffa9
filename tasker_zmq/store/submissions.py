"""Tasks that were asked for by SQL: taken by one core each, made, or refused with the reason."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from tasker_zmq.store.statements import Row, rows, run

CHANNEL = "tasker_submissions"  # of NOTIFY, when there is a new one


def take(connection: Connection, *, now: datetime, at_most: int) -> Sequence[Row]:
    """Due ones, locked until the transaction's end; rows as the statement names them."""
    return rows(connection, "take_submissions", {"now": now, "at_most": at_most})


def next_due(connection: Connection, *, now: datetime) -> datetime | None:
    """When the next one that is not due yet will be."""
    found = rows(connection, "next_submission", {"now": now})
    return found[0].due_at if found else None


def settle(
    connection: Connection, made: Sequence[int], refused: Mapping[int, str], *, now: datetime
) -> None:
    """Forget what is a task now; keep the others with why they are none."""
    values = {
        "made": list(made),
        "refused": list(refused),
        "refusals": list(refused.values()),
        "now": now,
    }
    run(connection, "settle_submissions", values)
