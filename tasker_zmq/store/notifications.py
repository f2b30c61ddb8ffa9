"""LISTEN, on a connection that does nothing else."""

from collections.abc import Iterable
from typing import Any

import psycopg
from sqlalchemy import Connection


def listen(connection: Connection, channels: Iterable[str]) -> None:
    """From now on this connection hears of these channels, names of ours."""
    _driver(connection).set_autocommit(True)
    for channel in channels:
        connection.exec_driver_sql(f"LISTEN {channel}")


def wait(connection: Connection, timeout_seconds: float) -> set[str]:
    """Channels of which something was heard; raises psycopg's errors when the link is gone."""
    heard = _driver(connection).notifies(timeout=timeout_seconds, stop_after=1)
    return {each.channel for each in heard}


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    return driver
