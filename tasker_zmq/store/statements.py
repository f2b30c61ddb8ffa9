"""Hot statements: one `.sql` file each, with its reason on top.

They run inside SQLAlchemy's transaction but on the driver's own cursor: SQLAlchemy's execution
costs 0.2 ms of Python for each, more than the server takes for most of them at one step a tick.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, TextClause, text

from tasker_zmq.store.arrays import literal

_PARAMETER: Final = re.compile(r"(?<!:):([a-z_]+)")

Row = Any  # a named tuple with the statement's columns


def source(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    path = resources.files("tasker_zmq.store").joinpath("sql", f"{name}.sql")
    return path.read_text(encoding="utf-8")


def statement(name: str) -> TextClause:
    """The statement for SQLAlchemy, for those who explain or prepare it."""
    return text(source(name))


@cache
def _for_driver(name: str) -> bytes:
    """The statement with the driver's placeholders, without comments."""
    lines = (line for line in source(name).splitlines() if not line.startswith("--"))
    return _PARAMETER.sub(r"%(\1)s", "\n".join(lines).replace("%", "%%")).encode()


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
    return _execute(connection, name, values).fetchall()


def run(connection: Connection, name: str, values: Mapping[str, Any]) -> int:
    """Run a named statement that returns nothing; the number of rows that it touched last."""
    return _execute(connection, name, values).rowcount


def _execute(connection: Connection, name: str, values: Mapping[str, Any]) -> "psycopg.Cursor[Row]":
    driver: psycopg.Connection[Row] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    if not connection.in_transaction():
        connection.begin()  # as SQLAlchemy's own execution does: else commit() would do nothing
    cursor = driver.cursor(row_factory=namedtuple_row)
    try:
        return cursor.execute(_for_driver(name), _bound(values))
    except psycopg.Error as error:
        if driver.closed or driver.broken:
            connection.invalidate(error)  # else the pool would hand the dead connection out again
        raise


def _bound(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: literal(value) if isinstance(value, list) else value for key, value in values.items()
    }
