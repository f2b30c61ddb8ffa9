"""Prepared statements straight on libpq, whose wrapper psycopg publishes as `psycopg.pq`.

A statement of one row takes the server about 0.2 ms; the driver's cursor adds 0.1 ms of Python and
a round trip of its own for BEGIN. Here BEGIN travels with the first statement of a transaction.
"""

import select
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from tasker_zmq.store.arrays import literal

_BEGIN: Final = b"tasker_begin"
_DONE: Final = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})

Row = Any  # a named tuple with the statement's columns


@dataclass(frozen=True)
class Statement:
    """SQL with `$1`, `$2`, ... and the names of the values that stand there."""

    name: str
    sql: bytes
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What a statement returned, or how many rows it touched."""

    rows: Sequence[Row]
    touched: int


class PreparedStatements:
    """The statements that one connection knows; used by one thread at a time."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._known: set[str] = set()
        self._makers: dict[str, Callable[[Sequence[Any]], Row]] = {}
        self._transformer = Transformer(connection)

    def execute(self, statement: Statement, values: Sequence[object]) -> Done:
        """Run it in the open transaction, or in one that it begins; raises psycopg's errors."""
        libpq = self._connection.pgconn
        name = statement.name.encode()
        self._prepare(libpq, _BEGIN.decode(), b"BEGIN")
        self._prepare(libpq, statement.name, statement.sql)
        parameters = [_text(value) for value in values]
        if libpq.transaction_status == TransactionStatus.IDLE:
            result = self._begin_with(libpq, name, parameters)
        else:
            result = libpq.exec_prepared(name, parameters)  # type: ignore[arg-type] # None is NULL
        self._check(libpq, result)
        return Done(self._rows(statement.name, result), result.command_tuples or 0)

    def _prepare(self, libpq: PGconn, name: str, sql: bytes) -> None:
        if name not in self._known:
            self._check(libpq, libpq.prepare(name.encode(), sql))
            self._known.add(name)

    def _begin_with(
        self, libpq: PGconn, name: bytes, parameters: Sequence[bytes | None]
    ) -> PGresult:
        """BEGIN and the statement in one round trip; the first result that is no success."""
        libpq.enter_pipeline_mode()
        libpq.send_query_prepared(_BEGIN, None)
        libpq.send_query_prepared(name, parameters)
        libpq.pipeline_sync()
        results = self._results(libpq)
        libpq.exit_pipeline_mode()
        failed = (each for each in results if each.status not in _DONE)
        return next(failed, results[-1])

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
        raise error_from_result(result)

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


def _text(value: object) -> bytes | None:
    """A value in PostgreSQL's text format; its type is the one that the statement casts it to."""
    if value is None:
        return None
    if isinstance(value, list):
        return literal(value).encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, datetime):
        return value.isoformat().encode()
    return str(value).encode()
