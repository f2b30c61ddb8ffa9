"""Hot statements: one `.sql` file each with its reason on top, sent through SQLAlchemy as is."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from tasker_zmq.store.arrays import literal


@cache
def statement(name: str) -> TextClause:
    """The statement in `sql/<name>.sql`."""
    source = resources.files("tasker_zmq.store").joinpath("sql", f"{name}.sql")
    return text(source.read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """Every statement that is shipped, for the tests that PREPARE and EXPLAIN them."""
    folder = resources.files("tasker_zmq.store").joinpath("sql")
    return tuple(
        sorted(
            entry.name.removesuffix(".sql")
            for entry in folder.iterdir()
            if entry.name.endswith(".sql")
        )
    )


def rows(connection: Connection, name: str, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    """Run a named statement and fetch all it returns; lists go as arrays."""
    return connection.execute(statement(name), _bound(values)).fetchall()


def run(connection: Connection, name: str, values: Mapping[str, Any]) -> int:
    """Run a named statement that returns nothing; the number of rows that it touched last."""
    return connection.execute(statement(name), _bound(values)).rowcount


def _bound(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: literal(value) if isinstance(value, list) else value for key, value in values.items()
    }
