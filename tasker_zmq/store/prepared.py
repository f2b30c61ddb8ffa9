"""Prepared statements straight on libpq, whose wrapper psycopg publishes as `psycopg.pq`.

A statement of one row takes the server about 0.2 ms; the driver's cursor adds 0.1 ms of Python and
a round trip of its own for BEGIN. Here BEGIN travels with the first statement of a transaction, and
COMMIT with the last ones, if nobody waits for what they return: PostgreSQL works on them meanwhile,
and to wake a process that waits takes as long as a small statement.
"""

import select
from collections import namedtuple
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final

import psycopg
from psycopg import abc
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from tasker_zmq.errors import StaleWriteError
from tasker_zmq.store.arrays import array


@dataclass(frozen=True)
class Statement:
    """SQL with `$1`, `$2`, ... and the names of the values that stand there."""

    name: str
    sql: bytes
    parameters: tuple[str, ...]


_BEGIN: Final = Statement("tasker_begin", b"BEGIN", ())
_COMMIT: Final = Statement("tasker_commit", b"COMMIT", ())
_STALE: Final = b"TZ001"  # raised by tasker_stale()
_DONE: Final = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})

_Dumped = tuple[Sequence[bytes | None], Sequence[int] | None]  # values, and their formats
_NOTHING: Final[_Dumped] = ((), None)

Row = Any  # a named tuple with the statement's columns


@dataclass(frozen=True)
class Done:
    """What a statement returned, or how many rows it touched."""

    rows: Sequence[Row]
    touched: int


class Pending:
    """What a statement that was sent will have returned once somebody has waited for it."""

    done: Done | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """Raises RuntimeError before that."""
        if self.done is None:
            raise RuntimeError("nobody has waited for this statement yet")
        return self.done.rows


class PreparedStatements:
    """The statements that one connection knows; used by one thread at a time."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._known: set[str] = set()
        self._makers: dict[str, Callable[[Sequence[Any]], Row]] = {}
        self._sent: list[tuple[Statement, Pending]] = []  # and not heard of yet

    def execute(self, statement: Statement, values: Sequence[object]) -> Done:
        """Run it in the open transaction, or in one that it begins; raises psycopg's errors.

        StaleWriteError when it found other rows than it was meant for.
        """
        self.settle()
        libpq = self._connection.pgconn
        if libpq.transaction_status == TransactionStatus.IDLE:
            pending = self.send(statement, values)
            self.settle()
            if pending.done is None:
                raise RuntimeError("settled without an answer")
            return pending.done
        self._prepare(libpq, statement)
        name = statement.name.encode()
        result = libpq.exec_prepared(name, *_dump(values))  # type: ignore[arg-type] # None is NULL
        self._check(libpq, result)
        return self._done(statement, result)

    def send(self, statement: Statement, values: Sequence[object]) -> Pending:
        """Have it run in the transaction, and do not wait for it: `settle` and `commit` do."""
        libpq = self._connection.pgconn
        dumped = _dump(values)
        if statement.name not in self._known:
            self.settle()
            self._prepare(libpq, statement)
        if not self._sent:
            self._prepare(libpq, _BEGIN)
            self._prepare(libpq, _COMMIT)
            is_first = libpq.transaction_status == TransactionStatus.IDLE
            libpq.enter_pipeline_mode()
            if is_first:
                self._put(libpq, _BEGIN)
        pending = self._put(libpq, statement, dumped)
        libpq.flush()
        return pending

    def settle(self) -> None:
        """Wait for what was sent; raises what `execute` raises."""
        if self._sent:
            self._hear()

    def commit(self) -> bool:
        """COMMIT behind what was sent, in one round trip; False: there is nothing of the kind."""
        if not self._sent:
            return False
        self._put(self._connection.pgconn, _COMMIT)
        self._hear()
        return True

    def forget(self) -> None:
        """Wait for what was sent, whatever comes of it: it will be rolled back."""
        with suppress(psycopg.Error, StaleWriteError):
            self.settle()

    def _put(self, libpq: PGconn, statement: Statement, dumped: _Dumped = _NOTHING) -> Pending:
        libpq.send_query_prepared(statement.name.encode(), *dumped)
        pending = Pending()
        self._sent.append((statement, pending))
        return pending

    def _hear(self) -> None:
        """Take the answer to each that was sent; raises for the first that failed."""
        libpq = self._connection.pgconn
        sent, self._sent = self._sent, []
        libpq.pipeline_sync()
        results = self._results(libpq)
        libpq.exit_pipeline_mode()
        for (statement, pending), result in zip(sent, results, strict=False):
            self._check(libpq, result)
            pending.done = self._done(statement, result)

    def _prepare(self, libpq: PGconn, statement: Statement) -> None:
        if statement.name not in self._known:
            self._check(libpq, libpq.prepare(statement.name.encode(), statement.sql))
            self._known.add(statement.name)

    def _results(self, libpq: PGconn) -> list[PGresult]:
        """All up to the sync; waits without holding the interpreter's lock, unlike PQgetResult."""
        socket = select.poll()
        unsent = libpq.flush()
        socket.register(libpq.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
        results: list[PGresult] = []
        while True:
            while libpq.is_busy():
                socket.poll()
                libpq.consume_input()
                if unsent:
                    unsent = libpq.flush()
                    socket.modify(libpq.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            result = libpq.get_result()
            if result is None:
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)

    def _check(self, libpq: PGconn, result: PGresult) -> None:
        if result.status in _DONE:
            return
        if libpq.status != ConnStatus.OK:
            raise psycopg.OperationalError(result.get_error_message())
        if result.error_field(DiagnosticField.SQLSTATE) == _STALE:
            told = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
            raise StaleWriteError(told.decode(errors="replace"))
        raise error_from_result(result)

    def _done(self, statement: Statement, result: PGresult) -> Done:
        return Done(self._rows(statement.name, result), result.command_tuples or 0)

    def _rows(self, name: str, result: PGresult) -> Sequence[Row]:
        if result.status != ExecStatus.TUPLES_OK:
            return ()
        make = self._makers.get(name)
        if make is None:
            columns = [(result.fname(each) or b"").decode() for each in range(result.nfields)]
            row_type: Any = namedtuple("Row", columns)  # type: ignore[misc] # noqa: PYI024
            # Without a frame of Python's for each row, as its own maker would have.
            make = self._makers[name] = partial(tuple.__new__, row_type)
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, make)

    @cached_property
    def _transformer(self) -> abc.Transformer:
        """Made late: the connection gets SQLAlchemy's ways to read JSON after it was made."""
        return Transformer(self._connection)


def _dump(values: Sequence[object]) -> _Dumped:
    """Values as libpq takes them, and the format of each; None: text, all of them."""
    parameters: list[bytes | None] = []
    binary: list[int] = []
    for place, value in enumerate(values):
        if isinstance(value, list):
            dumped, is_binary = array(value)
            parameters.append(dumped)
            if is_binary:
                binary.append(place)
        else:
            parameters.append(_text(value))
    if not binary:
        return parameters, None
    return parameters, [Format.BINARY if n in binary else Format.TEXT for n in range(len(values))]


def _text(value: object) -> bytes | None:
    """A value in PostgreSQL's text format; its type is the one that the statement casts it to."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, datetime):
        return value.isoformat().encode()
    return str(value).encode()
