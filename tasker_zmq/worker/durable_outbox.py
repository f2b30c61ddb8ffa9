"""An outbox in a file: what a killed worker had to tell is told by the next one of its name.

The timetable is a MemoryOutbox's; the file is its copy, written once per turn of the loop, before
anything of that turn is published.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from tasker_zmq.domain.ids import BatchUuid
from tasker_zmq.errors import SettingsError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import BatchCompletion, BatchError, PartialResult
from tasker_zmq.worker.outbox import (
    MemoryOutbox,
    OutboxKey,
    Report,
    Unrecorded,
    key_of,
)

APPLICATION_ID: Final = 0x7A6D7121  # tells our files from other programs' databases
FORMAT: Final = 1
RETRY_SECONDS: Final = 1.0  # between two tries to write to a disk that refuses
FORGET_SECONDS: Final = 1.0  # a resend that was not needed does no harm: deletions may wait
OWNER_ONLY: Final = 0o600  # results may be anybody's secrets
KEPT_PAGES_BYTES: Final = 4 * 1024 * 1024
PRIMARY_CODE: Final = 0xFF  # the rest of an SQLite code says more than we need

_SCHEMA: Final = f"""
CREATE TABLE owner (worker_name TEXT NOT NULL, opened INTEGER NOT NULL);
CREATE TABLE unrecorded (number INTEGER PRIMARY KEY, report BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""
_reports = msgspec.json.Decoder(PartialResult | BatchCompletion | BatchError)


class OutboxFileError(SettingsError):
    """The outbox's file cannot be used; the message says which and why."""


@contextlib.contextmanager
def open_outbox(
    path: Path, *, worker_name: str, chance: Callable[[], float]
) -> Iterator["DurableOutbox"]:
    """The outbox in `path`, made if it is not there, ours alone until the context ends.

    Raises OutboxFileError: another process has it, it is another worker's or no outbox at all, or
    it cannot be written.
    """
    try:
        connection = _connect(path)
    except (OSError, sqlite3.Error) as error:
        raise OutboxFileError(f"outbox '{path}' cannot be opened: {error}") from None
    try:
        reports = _take(connection, path, worker_name)
        outbox = DurableOutbox(connection, reports=reports, chance=chance)
        yield outbox
        try:
            outbox.write()
        except sqlite3.Error as error:
            raise OutboxFileError(
                f"outbox '{path}' could not be written at the end ({error}); results that the"
                " daemon had not recorded are lost, their steps will be run again"
            ) from None
    finally:
        connection.close()


class DurableOutbox:
    """A MemoryOutbox and its copy on disk; `reports` are those found there, by their numbers."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        reports: Iterable[tuple[int, Report]],
        chance: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._memory = MemoryOutbox(chance)
        self._numbers: dict[OutboxKey, int] = {}
        self._written: set[int] = set()
        self._unwritten: dict[int, Report] = {}
        self._unforgotten: set[int] = set()
        self._last_number = 0
        self._due = 0.0
        self._problem: str | None = None
        for number, report in reports:
            key = key_of(report)
            self._memory.add(key, report, now=0.0)
            self._numbers[key] = number
            self._written.add(number)
            self._last_number = number

    def add(self, key: OutboxKey, report: Report, *, now: float) -> None:
        self._memory.add(key, report, now=now)
        number = self._numbers.get(key)
        if number is None:
            number = self._last_number = self._last_number + 1
            self._numbers[key] = number
        self._unwritten[number] = report

    def due(self, now: float) -> tuple[Unrecorded, ...]:
        return self._memory.due(now)

    def sent(self, key: OutboxKey, *, now: float) -> None:
        self._memory.sent(key, now=now)

    def later(self, key: OutboxKey, *, now: float) -> None:
        self._memory.later(key, now=now)

    def hurry(self, *, now: float, batch_id: BatchUuid | None = None) -> None:
        self._memory.hurry(now=now, batch_id=batch_id)

    def recorded(self, entries: Iterable[Recorded]) -> None:
        entries = tuple(entries)
        self._memory.recorded(entries)
        for each in entries:
            key = OutboxKey(each.batch_id, each.message_type, each.step_id, each.sequence)
            number = self._numbers.pop(key, None)
            if number is not None:
                self._unwritten.pop(number, None)
                self._unforgotten |= {number} & self._written

    def next_due(self) -> float | None:
        return self._memory.next_due()

    def batch_ids(self) -> tuple[BatchUuid, ...]:
        return self._memory.batch_ids()

    def unacknowledged(self, limit: int) -> tuple[Unrecorded, ...]:
        return self._memory.unacknowledged(limit)

    def settle(self, *, now: float) -> str | None:
        wanted = bool(self._unwritten) and self._problem is None
        if wanted or ((self._unwritten or self._unforgotten) and now >= self._due):
            try:
                self.write()
                self._problem = None
                self._due = now + FORGET_SECONDS
            except sqlite3.Error as error:
                self._problem = str(error)
                self._due = now + RETRY_SECONDS
        return self._problem

    def write(self) -> None:
        """One transaction with all that changed; raises sqlite3.Error, and then it is all kept."""
        new = [(number, codec.encode(report)) for number, report in self._unwritten.items()]
        with _transaction(self._connection):
            self._connection.executemany(
                "DELETE FROM unrecorded WHERE number = ?",
                [(number,) for number in self._unforgotten],
            )
            self._connection.executemany("INSERT OR REPLACE INTO unrecorded VALUES (?, ?)", new)
        self._written |= self._unwritten.keys()
        self._written -= self._unforgotten
        self._unwritten.clear()
        self._unforgotten.clear()

    def __len__(self) -> int:
        return len(self._memory)


def _connect(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY))
    # The thread that opens it may be another than the loop's; one at a time uses it.
    connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    # Exclusive, and before the first look into the file: then it also stays locked, until this
    # process ends in whatever way, and no shared memory is needed beside it.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _take(connection: sqlite3.Connection, path: Path, worker_name: str) -> list[tuple[int, Report]]:
    """Make sure that the file is ours and can be written; what it holds, oldest first."""
    try:
        with _transaction(connection):
            _check(connection, path, worker_name)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {KEPT_PAGES_BYTES}")
        with _transaction(connection):
            connection.execute("UPDATE owner SET opened = opened + 1")
        rows = connection.execute("SELECT number, report FROM unrecorded ORDER BY number")
        return [(number, _reports.decode(report)) for number, report in rows]
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE == sqlite3.SQLITE_BUSY:
            raise OutboxFileError(
                f"outbox '{path}' is in use by another process; give each worker a file of its own"
            ) from None
        raise OutboxFileError(f"outbox '{path}' cannot be used: {error}") from None
    except msgspec.DecodeError as error:
        raise OutboxFileError(
            f"outbox '{path}' holds what this version cannot read: {error}"
        ) from None


def _check(connection: sqlite3.Connection, path: Path, worker_name: str) -> None:
    """Write the head of a new file; raises OutboxFileError when it is somebody else's."""
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO owner VALUES (?, 0)", (worker_name,))
        return
    if found != APPLICATION_ID:
        raise OutboxFileError(f"'{path}' is the database of another program, not an outbox")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise OutboxFileError(f"outbox '{path}' has format {version}; this version reads {FORMAT}")
    row = connection.execute("SELECT worker_name FROM owner").fetchone()
    owner = row[0] if row else None
    if not isinstance(owner, str):  # a torn page may read as if nothing had been written there
        raise OutboxFileError(f"outbox '{path}' is malformed: it says no worker's name")
    if owner != worker_name:
        raise OutboxFileError(
            f"outbox '{path}' is the worker {owner}'s, and this one is {worker_name}; give each"
            " worker a file of its own, and --name if the name came from the machine's"
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; what SQLite has rolled back by itself needs no second time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
