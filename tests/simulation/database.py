"""One real database for all simulations of a process: emptied for each, and able to fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event

from tasker_zmq.store import connection as connections
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.reads.invariant import Invariant
from tasker_zmq.store.reads.invariants import INVARIANTS, LIMIT
from tasker_zmq.store.tables import Base
from tests.simulation.promises import AT_REST

Row = tuple[Any, ...]
Word = tuple[str, str]  # a channel, and what was said on it


class CrashError(BaseException):
    """The core's process ends here: no handler of ours may catch it, as none catches kill -9."""


class Fate(StrEnum):
    """What becomes of a commit."""

    DONE = "done"
    CRASH_BEFORE = "crash_before"
    UNKNOWN_DONE = "unknown_done"  # it happened, and the answer got lost
    UNKNOWN_UNDONE = "unknown_undone"
    CONFLICT = "conflict"


class Access:
    """One core process's way to the database: a connection that can fail for this process alone."""

    def __init__(self, url: str, limits: ConnectionLimits) -> None:
        self.engine: Engine = connections.create(url, purpose="simulated", limits=limits)
        self.words: list[Word] = []  # of NOTIFY, in the transaction that is open
        self.commits = 0  # of transactions in which anything was asked
        event.listen(self.engine, "begin", self._begin)
        event.listen(self.engine, "commit", self._commit)
        event.listen(self.engine, "before_cursor_execute", self._listen)
        self.forget()

    def forget(self) -> None:
        """Nobody uses it; nothing fails."""
        self.away: Callable[[], bool] = lambda: False
        self.fate: Callable[[], Fate] = lambda: Fate.DONE
        self.committed: Callable[[list[Word]], None] = lambda _words: None

    def _begin(self, _connection: Connection) -> None:
        self.words = []
        if self.away():
            raise psycopg.OperationalError("server closed the connection unexpectedly: simulated")

    def _listen(self, _connection: Connection, _cursor: Any, statement: str, *more: Any) -> None:
        if "pg_notify" in statement:
            channel, payload = more[0].values()
            self.words.append((channel, payload))

    def _commit(self, connection: Connection) -> None:
        fate = self.fate()
        driver: Any = connection.connection.dbapi_connection
        self.commits += driver.info.transaction_status is not TransactionStatus.IDLE
        if fate in {Fate.DONE, Fate.UNKNOWN_DONE}:
            driver.commit()  # it may fail by itself: what was sent ahead is heard of only here
            self.committed(self.words)
        else:
            driver.rollback()
        if fate is Fate.DONE:
            return
        if fate is Fate.CRASH_BEFORE:
            raise CrashError
        if fate is Fate.CONFLICT:
            raise psycopg.errors.SerializationFailure("could not serialize: simulated")
        raise psycopg.OperationalError("server closed the connection unexpectedly: simulated")


class Database:
    """Ways for cores to work with it, and a connection of our own to look at what they did."""

    def __init__(self, url: str) -> None:
        self._url, self._limits = url, ConnectionLimits()
        self._others = 0  # commits of programs that are no cores
        self._accesses: list[Access] = []
        self._free: list[Access] = []
        looking = connections.create(url, purpose="looking", limits=self._limits)
        self._looking_engine = looking
        self._looking = psycopg.connect(
            looking.url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            options="-c enable_mergejoin=off -c jit=off -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan",
        )
        self._prepare("always", INVARIANTS)
        self._prepare("at_rest", AT_REST)
        tables = [table.name for table in reversed(Base.metadata.sorted_tables)]
        self._emptying = "; ".join(f"DELETE FROM {name}" for name in tables)  # noqa: S608
        self._fingerprint = " UNION ALL ".join(
            f"SELECT '{name}', count(*), md5(string_agg(t::text, ' ' ORDER BY t::text)) "  # noqa: S608
            f"FROM {name} t"
            for name in tables
        )

    @property
    def commits(self) -> int:
        """It grows with each commit: what was seen before one may be out of date."""
        return self._others + sum(access.commits for access in self._accesses)

    def close(self) -> None:
        self._looking.close()
        self._looking_engine.dispose()
        self.dispose()

    def dispose(self) -> None:
        """End connections: they have prepared statements as these were."""
        for access in self._accesses:
            access.engine.dispose()

    def take_access(self) -> Access:
        """For one process of a core, until it is given back."""
        if not self._free:
            access = Access(self._url, self._limits)
            self._accesses.append(access)
            self._free.append(access)
        return self._free.pop()

    def give_back(self, access: Access) -> None:
        access.forget()
        self._free.append(access)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Without any row, and with sequences that begin anew: a seed replays to the id."""
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
            for access in self._accesses:
                access.forget()
            self._free = self._accesses[::-1]

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

    def submit(self, workflow: str, task: str) -> int:
        """Ask for a task as a program with a connection of its own does; the task's number."""
        self._others += 1
        [(task_id,)] = self.rows(
            "SELECT tasker_submit_task(%s, jsonb_build_object('order', %s::text), identity => %s)",
            workflow,
            task,
            task,
        )
        return int(task_id)

    def fingerprint(self) -> list[Row]:
        """Tables, how many rows each has, and what is in them."""
        return self._looking.execute(self._fingerprint.encode()).fetchall()
