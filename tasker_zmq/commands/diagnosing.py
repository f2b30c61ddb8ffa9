"""HealthCheck above its basic level: what rows say besides the snapshot, in a bounded time.

Whatever the database cannot tell now is left out and said: the snapshot is always answered.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection

from tasker_zmq.commands.context import Observing
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.store.connection import is_away, is_cancelled
from tasker_zmq.store.reads import diagnosis as reads

LEVELS: Final = ("basic", "detailed", "full")
SECONDS_MAX: Final = 2.0  # of each look at the database

Look = Callable[[Connection, Observing], dict[str, Any]]


def wants_rows(request: HealthCheck) -> bool:
    """Whether the snapshot alone is no answer; a level that nobody knows is refused beside it."""
    asked = request.include_worker_status or request.include_ready_task_count
    return asked or request.diagnostic_level != LEVELS[0]


def diagnose(observing: Observing, request: HealthCheck) -> dict[str, Any]:
    """The snapshot, and what the level and the wishes add; `limited_to` says what was left out."""
    level = request.diagnostic_level
    if level not in LEVELS:
        raise CommandRefusedError(
            "invalid", f"no diagnostic level '{level[:60]}'", hint=f"there are {', '.join(LEVELS)}"
        )
    answer: dict[str, Any] = {**observing.snapshot, "level": level}
    if observing.snapshot.get("database") == "away":
        return {**answer, "limited_to": "the snapshot: the database is away"}
    try:
        with observing.connect() as connection:
            reads.bound(connection, seconds=SECONDS_MAX)
            for look in _looks(request):
                answer |= look(connection, observing)
    except Exception as error:
        if is_away(error):
            answer["limited_to"] = "what is told here: the database is away"
        elif is_cancelled(error):
            answer["limited_to"] = f"what is told here: the rest took more than {SECONDS_MAX:g} s"
        else:
            raise
    return answer


def _looks(request: HealthCheck) -> list[Look]:
    """What the level and the wishes want, in this order."""
    detailed, full = (request.diagnostic_level in LEVELS[n:] for n in (1, 2))
    wanted = {
        _detailed: detailed,
        _full: full,
        _workers: full or request.include_worker_status,
        _ready: full or request.include_ready_task_count,
    }
    return [look for look, is_wanted in wanted.items() if is_wanted]


def _detailed(connection: Connection, observing: Observing) -> dict[str, Any]:
    before = observing.monotonic()
    reads.touch(connection)
    milliseconds = (observing.monotonic() - before) * 1_000
    return {
        "database_ms": round(milliseconds, 2),
        **reads.backlog(connection, now=observing.now),
        "cores": reads.cores(connection, now=observing.now),
    }


def _full(connection: Connection, observing: Observing) -> dict[str, Any]:
    return {
        "partition_weeks_ahead": reads.weeks_ahead(connection, now=observing.now),
        "dead_rows": reads.dead_rows(connection),
    }


def _workers(connection: Connection, observing: Observing) -> dict[str, Any]:
    return {"workers": reads.sessions(connection, now=observing.now)}


def _ready(connection: Connection, observing: Observing) -> dict[str, Any]:
    count = reads.ready_tasks(connection, now=observing.now)
    return {"ready_tasks": count, "ready_tasks_counted_to": reads.READY_MAX}
