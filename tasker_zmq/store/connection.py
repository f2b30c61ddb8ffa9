"""Connections to PostgreSQL on which hot statements are prepared once with a generic plan."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from tasker_zmq.errors import UnreachableError
from tasker_zmq.store.pipelining import PipeliningConnection

# A generic plan made while a table was still small must not stay a sequential scan for ever: every
# hot statement finds its rows by key, so scans and the joins that need them are priced out. Bitmaps
# too: they lose the order of an index, in which a LIMIT could stop early.
_PLANS = (
    "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off "
    "-c enable_mergejoin=off -c random_page_cost=1.1 -c jit=off"
)
_HELD = ("40001", "40P01", "55P03")
_RETRYABLE = (*_HELD, "23505")

# PostgreSQL cannot do it now, whoever asks: no message is at fault, and it may pass.
_AWAY = (
    "08",  # the connection failed
    "25006",  # it is read-only: a standby, or made so
    "25P03",  # it ended a transaction that rested: this process was stopped amid one
    "25P04",  # it ended a transaction that took longer than the server allows
    "3F000",  # the schema is not there: somebody took it away, or renames it
    "42501",  # it may not: a file system that became read-only says so too, not only a lost grant
    "42703",  # a column is not there: statements are ours and not a message's
    "42883",  # a function or an operator is not there
    "42P01",  # a table is not there
    "53",  # disk, memory or connections are full
    "57P0",  # it shuts down, crashed, or is starting up
    "58",  # its disk fails
    "XX001",  # what it reads there is damaged
    "XX002",
)
_SILENT = ("08", "57P0")
_CANCELLED = "57014"


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Seconds."""

    connect_timeout_seconds: float = 5
    statement_timeout_seconds: float = 10
    lock_timeout_seconds: float = 2


def create(
    url: str, *, purpose: str, limits: ConnectionLimits, pool_size: int = 1, reading: bool = False
) -> Engine:
    """An engine whose connections name themselves `tasker-zmq <purpose>` in pg_stat_activity.

    `reading`: they can write nothing, and one that the server has ended is not used again.
    """
    milliseconds = {
        "statement_timeout": limits.statement_timeout_seconds,
        "lock_timeout": limits.lock_timeout_seconds,
        "idle_in_transaction_session_timeout": limits.statement_timeout_seconds,
    }
    options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in milliseconds.items())
    if reading:
        options += " -c default_transaction_read_only=on"
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            "application_name": f"tasker-zmq {purpose}",
            "connect_timeout": max(1, int(limits.connect_timeout_seconds)),
            "options": f"{options} {_PLANS} -c timezone=UTC",
            # What the driver prepares by itself it deallocates after a rollback, and ours with it.
            "prepare_threshold": None,
            "keepalives_idle": 30,
        },
    )
    event.listen(engine, "do_connect", _connect)
    if reading:
        event.listen(engine, "checkout", _refuse_ended)
    return engine


def _connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> PipeliningConnection:
    return PipeliningConnection.connect(*arguments, **parameters)


def _refuse_ended(driver: PipeliningConnection, _record: Any, _proxy: Any) -> None:
    """The pool makes a new one then: a server says something to who is at rest when it ends him.

    To ask it would be a round trip, as long as most questions take.
    """
    said = select.poll()
    if not driver.closed:
        said.register(driver.fileno(), select.POLLIN)
    if driver.closed or said.poll(0):
        raise DisconnectionError


def is_starting(engine: Engine, *, connect_timeout_seconds: float) -> bool:
    """Whether the server is there and lets nobody in yet (57P03): it starts, or recovers.

    A connection that fails does not tell its SQLSTATE; libpq's ping looks at it.
    """
    _, parameters = engine.dialect.create_connect_args(engine.url)
    parameters["connect_timeout"] = max(1, int(connect_timeout_seconds))
    parameters.pop("context", None)  # the driver's own, unknown to libpq
    with translated():
        return PGconn.ping(make_conninfo(**parameters).encode()) == Ping.REJECT


def sql_state(error: BaseException) -> str | None:
    """PostgreSQL's five characters, whether SQLAlchemy wrapped the driver's error or not."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def is_away(error: BaseException) -> bool:
    """Whether the database did not answer, or answered that it cannot now: try again later."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.InterfaceError):
        return True
    state = sql_state(error)
    if state is None:
        return isinstance(cause, psycopg.OperationalError)
    return state.startswith(_AWAY)


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement took too long (statement timeout), or somebody ended it."""
    return sql_state(error) == _CANCELLED


def is_held_up(error: BaseException) -> bool:
    """Whether others' locks were in the way (deadlock, serialization, lock timeout): it passes."""
    return sql_state(error) in _HELD


def is_conflict(error: BaseException) -> bool:
    """Whether two transactions met (locks, or the same row twice): worth trying again at once.

    The same row twice may also be one message's fault for ever, so only locks are waited for.
    """
    return sql_state(error) in _RETRYABLE


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that is away into UnreachableError, without its password."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        if not is_away(error):
            raise
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        state = sql_state(error)
        if state is not None and not state.startswith(_SILENT):
            raise UnreachableError(
                f"the database answers, but cannot do this now: {reason}; see to PostgreSQL"
            ) from None
        raise UnreachableError(
            f"the database does not answer: {reason}; check TASKER_DATABASE_URL and that "
            "PostgreSQL runs"
        ) from None
