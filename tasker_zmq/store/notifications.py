"""NOTIFY, and LISTEN on a connection that does nothing else."""

from collections.abc import Iterable
from typing import Any

import psycopg
from sqlalchemy import Connection, func, select


def listen(connection: Connection, channels: Iterable[str]) -> None:
    """From now on this connection hears of these channels, names of ours."""
    _driver(connection).set_autocommit(True)
    for channel in channels:
        connection.exec_driver_sql(f"LISTEN {channel}")


def wait(connection: Connection, timeout_seconds: float) -> list[tuple[str, str]]:
    """What was heard, as channel and payload; raises psycopg's errors when the link is gone."""
    heard = _driver(connection).notifies(timeout=timeout_seconds, stop_after=1)
    return [(each.channel, each.payload) for each in heard]


def notify(connection: Connection, channel: str, payload: str) -> None:
    """Tell all who listen, once this transaction is committed; at most 7,999 bytes."""
    connection.execute(select(func.pg_notify(channel, payload)))


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    return driver
