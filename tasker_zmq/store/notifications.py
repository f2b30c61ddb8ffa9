"""LISTEN, on a connection that does nothing else."""

from typing import Any

import psycopg
from sqlalchemy import Connection


def listen(connection: Connection, channel: str) -> None:
    """From now on this connection hears of `channel`, a name of ours."""
    _driver(connection).set_autocommit(True)
    connection.exec_driver_sql(f"LISTEN {channel}")


def wait(connection: Connection, timeout_seconds: float) -> bool:
    """Whether something was notified meanwhile; raises psycopg's errors when the link is gone."""
    heard = list(_driver(connection).notifies(timeout=timeout_seconds, stop_after=1))
    return bool(heard)


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    return driver
