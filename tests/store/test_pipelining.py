"""Statements that are sent ahead belong to their transaction, whoever waits for them."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tasker_zmq.errors import StaleWriteError
from tasker_zmq.store import statements
from tasker_zmq.store.pipelining import PipeliningConnection
from tasker_zmq.store.prepared import Statement

PUT = Statement("put", b"INSERT INTO kept (n) VALUES ($1::integer) RETURNING n", ("n",))
STALE = Statement("stale", b"SELECT tasker_stale('rows', 2, 1) AS never", ())
BROKEN = Statement("broken", b"SELECT 1 / $1::integer AS never", ("n",))


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as made:
        made.execute(text("CREATE TEMPORARY TABLE kept (n integer)"))
        made.commit()
        yield made


def driver(connection: Connection) -> PipeliningConnection:
    found = connection.connection.driver_connection
    assert isinstance(found, PipeliningConnection)
    if not connection.in_transaction():
        connection.begin()
    return found


def kept(connection: Connection) -> list[int]:
    return [row.n for row in connection.execute(text("SELECT n FROM kept ORDER BY n"))]


def test_a_commit_takes_along_what_was_sent(connection: Connection) -> None:
    first = driver(connection).statements.send(PUT, [1])
    second = driver(connection).statements.send(PUT, [2])
    with pytest.raises(RuntimeError, match="nobody has waited"):
        _ = first.rows
    connection.commit()
    assert (first.rows[0].n, second.rows[0].n) == (1, 2)
    connection.rollback()
    assert kept(connection) == [1, 2]


def test_who_asks_next_sees_what_was_sent(connection: Connection) -> None:
    driver(connection).statements.send(PUT, [1])
    assert kept(connection) == [1]
    driver(connection).statements.send(PUT, [2])
    assert driver(connection).statements.execute(PUT, [3]).rows[0].n == 3
    connection.commit()
    assert kept(connection) == [1, 2, 3]


def test_a_rollback_takes_back_what_was_sent(connection: Connection) -> None:
    driver(connection).statements.send(PUT, [1])
    connection.rollback()
    assert kept(connection) == []


def test_a_stale_write_is_met_by_the_commit_and_nothing_stays(connection: Connection) -> None:
    transaction = connection.begin()
    for statement, values in ((PUT, [1]), (STALE, []), (PUT, [2])):
        driver(connection).statements.send(statement, values)
    with pytest.raises(StaleWriteError, match="rows: expected 2, found 1"):
        transaction.commit()
    transaction.rollback()
    with connection.begin():
        assert kept(connection) == []


def test_an_error_of_the_servers_is_met_by_whoever_asks_next(connection: Connection) -> None:
    driver(connection).statements.send(BROKEN, [0])
    with pytest.raises(DBAPIError, match="division by zero"):
        connection.execute(text("SELECT 1"))
    connection.rollback()
    assert kept(connection) == []


def test_more_than_fits_into_any_buffer_goes_through(connection: Connection) -> None:
    long = Statement("long", b"SELECT length($1::text) AS n", ("words",))
    sent = [driver(connection).statements.send(long, ["x" * 3_000_000]) for _ in range(3)]
    connection.commit()
    assert [each.rows[0].n for each in sent] == [3_000_000] * 3


def test_a_connection_that_dies_meanwhile_is_not_handed_out_again(engine: Engine) -> None:
    with engine.connect() as connection:
        statements.send(connection, "next_retry", {"core_id": "core-1"})
        number = driver(connection).info.backend_pid
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": number})
        with pytest.raises(psycopg.OperationalError):
            driver(connection).statements.execute(PUT, [1])
        connection.invalidate()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != number
