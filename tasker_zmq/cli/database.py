"""The configured database, for those who only read: it works while the daemon is down."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.clock import SystemClock
from tasker_zmq.errors import TaskerError, UnreachableError
from tasker_zmq.settings import DatabaseSettings
from tasker_zmq.store import connection, schema
from tasker_zmq.store.connection import ConnectionLimits, translated
from tasker_zmq.store.provision import DatabaseServer, database_server

TIMED_OUT: Final = ("57014", "55P03")  # its time was up, or the time to wait for a lock
# Hot statements are planned for small reads by key; questions of people may want whole tables.
_PLAN_FREELY: Final = text(
    "SELECT set_config('plan_cache_mode', 'auto', true), set_config('enable_seqscan', 'on', true), "
    "set_config('enable_mergejoin', 'on', true)"
)


class QuestionTimedOutError(TaskerError):
    """The database was not done with a question in the time that it has."""


class Database:
    """A database whose schema is the one we know; every `reading` sees one moment of it."""

    def __init__(self, engine: Engine, origin: str, *, seconds_max: float) -> None:
        self._engine = engine
        self._seconds_max = seconds_max
        self.origin = origin

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read-only transaction that sees one moment."""
        with self._told(), translated(), self._engine.connect() as opened:
            reader = opened.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            reader.execute(_PLAN_FREELY)
            yield reader

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in TIMED_OUT:
                raise
            raise QuestionTimedOutError(
                f"the database needed more than {self._seconds_max:g} s for that, or it is locked; "
                "ask for less, or raise database.statement_timeout_seconds"
            ) from None


@contextmanager
def provided(settings: DatabaseSettings, *, create: bool = False) -> Iterator[DatabaseServer]:
    """The server of the settings; an embedded one is made only with `create`."""
    if settings.url is None and not create and not _has_cluster(settings.data_dir):
        raise UnreachableError(
            f"there is no database yet in {settings.data_dir}; start `tasker-zmq daemon`, which "
            "makes one, or name another with --database or TASKER_DATABASE_URL"
        )
    with database_server(settings.url, data_dir=settings.data_dir, keep=True) as server:
        yield server


def _has_cluster(data_dir: Path) -> bool:
    return (data_dir.expanduser() / "cluster" / "PG_VERSION").exists()


@contextmanager
def opened(invocation: Invocation, *, seconds_max: float | None = None) -> Iterator[Database]:
    """The configured database; `seconds_max` bounds each statement, else the setting does."""
    settings = invocation.settings.database
    limit = settings.statement_timeout_seconds if seconds_max is None else seconds_max
    with provided(settings) as server, engine_of(server, settings, seconds_max=limit) as engine:
        found = Database(engine, server.origin, seconds_max=limit)
        with found.reading() as reader:
            schema.refuse_unknown(reader)
        yield found


@contextmanager
def engine_of(
    server: DatabaseServer, settings: DatabaseSettings, *, seconds_max: float
) -> Iterator[Engine]:
    """An engine of one connection on that server."""
    limits = ConnectionLimits(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        statement_timeout_seconds=seconds_max,
        lock_timeout_seconds=settings.lock_timeout_seconds,
    )
    engine = connection.create(server.url, purpose="cli", limits=limits)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(invocation: Invocation) -> Iterator[Connection]:
    """One read-only look at the configured database."""
    with opened(invocation) as database, database.reading() as reader:
        yield reader


def read_clock() -> datetime:
    """What time it is, for a command that shows how long ago something was."""
    return SystemClock().now()
