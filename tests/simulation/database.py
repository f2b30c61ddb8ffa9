"""One real database for all simulations of a process: emptied for each, and able to fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from tasker_zmq.store import connection as connections
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.reads.invariant import Invariant
from tasker_zmq.store.reads.invariants import INVARIANTS, LIMIT
from tasker_zmq.store.tables import Base
from tests.simulation.promises import AT_REST

Row = tuple[Any, ...]


class CrashError(BaseException):
    """The core's process ends here: no handler of ours may catch it, as none catches kill -9."""


class Fate(StrEnum):
    """What becomes of a commit."""

    DONE = "done"
    CRASH_BEFORE = "crash_before"
    UNKNOWN_DONE = "unknown_done"  # it happened, and the answer got lost
    UNKNOWN_UNDONE = "unknown_undone"
    CONFLICT = "conflict"


class Database:
    """The engine that a core works with, and a connection of our own to look at what it did."""

    def __init__(self, url: str) -> None:
        limits = ConnectionLimits()
        self.engine: Engine = connections.create(url, purpose="simulated", limits=limits)
        looking = connections.create(url, purpose="looking", limits=limits)
        self._looking_engine = looking
        self._looking = psycopg.connect(
            looking.url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            options="-c enable_mergejoin=off -c jit=off -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan",
        )
        self.away: Callable[[], bool] = lambda: False
        self.fate: Callable[[], Fate] = lambda: Fate.DONE
        self.committed: Callable[[], None] = lambda: None
        event.listen(self.engine, "begin", self._begin)
        event.listen(self.engine, "commit", self._commit)
        self._prepare("always", INVARIANTS)
        self._prepare("at_rest", AT_REST)
        tables = reversed(Base.metadata.sorted_tables)
        self._emptying = "; ".join(f"DELETE FROM {table.name}" for table in tables)  # noqa: S608

    def close(self) -> None:
        self._looking.close()
        self._looking_engine.dispose()
        self.engine.dispose()

    def _begin(self, connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if self.away():
            driver.close()  # whatever is asked next fails as it does when the server is gone

    def _commit(self, connection: Connection) -> None:
        fate = self.fate()
        driver: Any = connection.connection.dbapi_connection
        if fate is Fate.DONE:
            self.committed()
            return
        if fate is Fate.UNKNOWN_DONE:
            driver.commit()
            self.committed()
        else:
            driver.rollback()
        if fate is Fate.CRASH_BEFORE:
            raise CrashError
        if fate is Fate.CONFLICT:
            raise psycopg.errors.SerializationFailure("could not serialize: simulated")
        raise psycopg.OperationalError("server closed the connection unexpectedly: simulated")

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Without any row, and with sequences that begin anew: a seed replays to the id."""
        self.away, self.fate, self.committed = lambda: False, lambda: Fate.DONE, lambda: None
        with self._looking.transaction():
            # Without triggers: neither the ledger's refusal nor a foreign key has to be asked.
            self._looking.execute("SET LOCAL session_replication_role = replica")
            self._looking.execute(self._emptying.encode())
            self._looking.execute(
                "SELECT setval(CAST(c.oid AS regclass), 1, false) FROM pg_class c "
                "WHERE c.relkind = 'S' ORDER BY c.relname"
            )
        try:
            yield
        finally:
            self.away, self.fate = lambda: False, lambda: Fate.DONE

    def _prepare(self, name: str, invariants: tuple[Invariant, ...]) -> None:
        parts = [
            f"SELECT '{each.name}' AS promise, subject, detail FROM "  # noqa: S608 - our own text
            f"({each.sql.strip()} LIMIT {LIMIT}) AS found"
            for each in invariants
        ]
        self._looking.execute(f"PREPARE {name} AS {' UNION ALL '.join(parts)}".encode())

    def broken(self, name: str) -> list[Row]:
        """What breaks the invariants prepared under `name`: promise, subject, detail."""
        return self._looking.execute(f"EXECUTE {name}".encode()).fetchall()

    def rows(self, statement: str, *values: object) -> list[Row]:
        """What is committed, seen from outside."""
        return self._looking.execute(statement.encode(), values or None).fetchall()
