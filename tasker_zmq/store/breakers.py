"""Breakers that are open, and were, as rows: for people, for other cores, and after a restart."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import Connection, select, text, update

from tasker_zmq.domain.breaker import FORGOTTEN_AFTER, Breaker, BreakerState, Pair
from tasker_zmq.domain.ids import CoreId, HandlerClass
from tasker_zmq.store import administration
from tasker_zmq.store.notifications import notify
from tasker_zmq.store.tables import Worker, WorkerBreaker

_IS_OPEN: Final = WorkerBreaker.state == BreakerState.OPEN
_OPEN: Final = text(
    """
INSERT INTO tasker_worker_breakers (worker_id, handler_class, state, failures, opened_at,
    next_try_at, cool_off_seconds, last_error, core_id)
SELECT w.worker_id, b.handler_class, 'open', b.failures, b.opened_at, b.next_try_at,
    b.cool_off_seconds, b.last_error, :core_id
FROM jsonb_to_recordset(CAST(:breakers AS jsonb)) AS b(
    worker_name text, handler_class text, failures integer, opened_at timestamptz,
    next_try_at timestamptz, cool_off_seconds double precision, last_error text)
JOIN tasker_workers w USING (worker_name)
ORDER BY w.worker_id, b.handler_class
ON CONFLICT (worker_id, handler_class) DO UPDATE SET state = excluded.state,
    failures = excluded.failures, opened_at = excluded.opened_at,
    next_try_at = excluded.next_try_at, cool_off_seconds = excluded.cool_off_seconds,
    last_error = excluded.last_error, core_id = excluded.core_id, closed_at = NULL
"""
)
_CLOSE: Final = text(
    """
WITH wanted AS (
    SELECT worker_id, handler_class FROM tasker_worker_breakers
    JOIN tasker_workers w USING (worker_id)
    JOIN jsonb_to_recordset(CAST(:breakers AS jsonb)) AS b(worker_name text, handler_class text)
        USING (worker_name, handler_class)
    WHERE state = 'open' ORDER BY worker_id, handler_class FOR UPDATE OF tasker_worker_breakers
)
UPDATE tasker_worker_breakers SET state = 'closed', closed_at = CAST(:now AS timestamptz),
    core_id = :core_id
FROM wanted WHERE (tasker_worker_breakers.worker_id, tasker_worker_breakers.handler_class)
    = (wanted.worker_id, wanted.handler_class)
"""
)


def write(
    connection: Connection, changed: Mapping[Pair, Breaker], *, core_id: CoreId, now: datetime
) -> None:
    """Write down which were opened and which were closed; all cores are told with the commit."""
    opened = [
        {
            **pair._asdict(),
            "failures": each.failures,
            "opened_at": each.opened_at,
            "next_try_at": each.next_try_at,
            "cool_off_seconds": each.cool_off_seconds,
            "last_error": each.last_error,
        }
        for pair, each in changed.items()
        if each.next_try_at is not None
    ]
    closed = [pair._asdict() for pair, each in changed.items() if each.next_try_at is None]
    by = {"core_id": core_id}
    if opened:
        connection.execute(_OPEN, {**by, "breakers": orjson.dumps(opened).decode()})
    if closed:
        told = {**by, "breakers": orjson.dumps(closed).decode(), "now": now}
        connection.execute(_CLOSE, told)
    notify(connection, administration.CHANNEL, "")


def load(connection: Connection, *, now: datetime) -> dict[Pair, Breaker]:
    """All that are open, and not forgotten."""
    chosen = (
        select(WorkerBreaker, Worker.worker_name)
        .join(Worker, Worker.worker_id == WorkerBreaker.worker_id)
        .where(_IS_OPEN, WorkerBreaker.next_try_at > now - FORGOTTEN_AFTER)
    )
    return {
        Pair(row.worker_name, HandlerClass(row.handler_class)): Breaker(
            failures=row.failures,
            opened_at=row.opened_at,
            next_try_at=row.next_try_at,
            cool_off_seconds=row.cool_off_seconds,
            last_error=row.last_error,
        )
        for row in connection.execute(chosen)
    }


def close_of(connection: Connection, worker_id: int, *, now: datetime) -> None:
    """Somebody says that the worker can do its work again."""
    connection.execute(
        update(WorkerBreaker)
        .where(WorkerBreaker.worker_id == worker_id, _IS_OPEN)
        .values(state=BreakerState.CLOSED, closed_at=now)
    )
