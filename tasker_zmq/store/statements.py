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

from tasker_zmq.store.prepared import Done, PreparedStatements, Row, Statement

__all__ = ["Row", "names", "rows", "run", "source", "statement"]

_PARAMETER: Final = re.compile(r"(?<!:):([a-z_]+)")
_PREPARED: Final = "tasker_zmq.prepared"  # in the pool's notes on a connection


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


def _execute(connection: Connection, name: str, values: Mapping[str, Any]) -> Done:
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    if not connection.in_transaction():
        connection.begin()  # as SQLAlchemy's own execution does: else commit() would do nothing
    prepared: PreparedStatements | None = connection.info.get(_PREPARED)
    if prepared is None:
        prepared = connection.info[_PREPARED] = PreparedStatements(driver)
    statement_ = _numbered(name)
    try:
        return prepared.execute(statement_, [values[each] for each in statement_.parameters])
    except psycopg.Error as error:
        if driver.closed or driver.broken:
            connection.invalidate(error)  # else the pool would hand the dead connection out again
        raise
