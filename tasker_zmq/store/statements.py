"""Hot statements: one `.sql` file each, with its reason on top.

They run inside SQLAlchemy's transaction but not through it: its execution costs 0.2 ms of Python
for each, more than the server takes for most of them at one step a tick.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, TextClause, text

from tasker_zmq.store.pipelining import PipeliningConnection
from tasker_zmq.store.prepared import Done, Pending, Row, Statement

__all__ = ["Pending", "Row", "names", "rows", "run", "send", "settle", "source", "statement"]

_PARAMETER: Final = re.compile(r"(?<!:):([a-z_]+)")


def source(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    path = resources.files("tasker_zmq.store").joinpath("sql", f"{name}.sql")
    return path.read_text(encoding="utf-8")


def statement(name: str) -> TextClause:
    """The statement for SQLAlchemy, for those who explain or prepare it."""
    return text(source(name))


@cache
def _numbered(name: str) -> Statement:
    """The statement with numbered parameters, without comments."""
    lines = (line for line in source(name).splitlines() if not line.startswith("--"))
    parameters: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${parameters.setdefault(found[1], len(parameters) + 1)}"

    sql = _PARAMETER.sub(number, "\n".join(lines))
    return Statement(name, sql.encode(), tuple(parameters))


def names() -> tuple[str, ...]:
    """Every statement that is shipped."""
    folder = resources.files("tasker_zmq.store").joinpath("sql")
    return tuple(
        sorted(
            entry.name.removesuffix(".sql")
            for entry in folder.iterdir()
            if entry.name.endswith(".sql")
        )
    )


def rows(connection: Connection, name: str, values: Mapping[str, Any]) -> Sequence[Row]:
    """Run a named statement and fetch all it returns; lists go as arrays.

    Raises psycopg's errors, see `store.connection.is_away` and `is_conflict`.
    """
    return _execute(connection, name, values).rows


def run(connection: Connection, name: str, values: Mapping[str, Any]) -> int:
    """Run a named statement that returns nothing; the number of rows that it touched last."""
    return _execute(connection, name, values).touched


def send(connection: Connection, name: str, values: Mapping[str, Any]) -> Pending:
    """Have a named statement run without waiting for it: the commit does, or whoever asks next.

    Raises psycopg's errors, as do those who wait; they also raise StaleWriteError.
    """
    driver, statement_ = _begun(connection), _numbered(name)
    try:
        return driver.statements.send(statement_, [values[e] for e in statement_.parameters])
    except psycopg.Error as error:
        _look_at(connection, driver, error)
        raise


def settle(connection: Connection) -> None:
    """Wait for all that was sent; raises what `send` says."""
    driver = _begun(connection)
    try:
        driver.statements.settle()
    except psycopg.Error as error:
        _look_at(connection, driver, error)
        raise


def _execute(connection: Connection, name: str, values: Mapping[str, Any]) -> Done:
    driver, statement_ = _begun(connection), _numbered(name)
    try:
        return driver.statements.execute(statement_, [values[e] for e in statement_.parameters])
    except psycopg.Error as error:
        _look_at(connection, driver, error)
        raise


def _begun(connection: Connection) -> PipeliningConnection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, PipeliningConnection):
        raise psycopg.InterfaceError("the connection is closed, or was not made by create()")
    if not connection.in_transaction():
        connection.begin()  # as SQLAlchemy's own execution does: else commit() would do nothing
    return driver


def _look_at(
    connection: Connection, driver: "psycopg.Connection[Any]", error: psycopg.Error
) -> None:
    """A dead connection must not be handed out again by the pool."""
    if driver.closed or driver.broken:
        connection.invalidate(error)
