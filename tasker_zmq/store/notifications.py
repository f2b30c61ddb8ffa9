"""NOTIFY, and LISTEN on a connection that does nothing else."""

import select as sockets
from collections.abc import Iterable
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, func, select


def listen(connection: Connection, channels: Iterable[str]) -> None:
    """From now on this connection hears of these channels, names of ours.

    It leaves its pool and is closed at its end: whoever came after would find one that commits
    each statement by itself and goes on listening.
    """
    connection.detach()
    _driver(connection).set_autocommit(True)
    for channel in channels:
        connection.exec_driver_sql(f"LISTEN {channel}")


def wait(
    connection: Connection, timeout_seconds: float, *, woken: int | None = None
) -> list[tuple[str, str]]:
    """What was heard, as channel and payload; raises psycopg's errors when the link is gone.

    It ends early when `woken`, a file descriptor, can be read. The driver's own wait looks up ten
    times a second; this one sleeps.
    """
    driver = _driver(connection)
    heard = list(driver.notifies(timeout=0, stop_after=1))
    if not heard:
        waiting = sockets.poll()
        waiting.register(driver.fileno(), sockets.POLLIN)
        if woken is not None:
            waiting.register(woken, sockets.POLLIN)
        waiting.poll(timeout_seconds * 1_000)
        heard = list(driver.notifies(timeout=0, stop_after=1))
    return [(each.channel, each.payload) for each in heard]


def notify(connection: Connection, channel: str, payload: str) -> None:
    """Tell all who listen, once this transaction is committed; at most 7,999 bytes."""
    connection.execute(select(func.pg_notify(channel, payload)))


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.dbapi_connection  # a detached one tells no other
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    return cast("psycopg.Connection[Any]", driver)
