"""Sessions for questions: they write nothing, and one that was ended is not used again."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import InternalError

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.store import connection as connections
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.pipelining import PipeliningConnection
from tasker_zmq.store.prepared import Statement

PROCESS = text("SELECT pg_backend_pid()")


@pytest.fixture
def reading(database_url: str) -> Iterator[Engine]:
    made = connections.create(
        database_url, purpose="tests", limits=ConnectionLimits(), reading=True
    )
    yield made
    made.dispose()


def backend(connection: Connection) -> int:
    return int(connection.execute(PROCESS).scalar_one())


def test_nothing_can_be_written(reading: Engine) -> None:
    with reading.connect() as connection, pytest.raises(InternalError, match="read-only"):
        connection.execute(text("DELETE FROM tasker_tasks"))


def test_a_session_is_used_again(reading: Engine) -> None:
    with reading.connect() as connection:
        first = backend(connection)
    with reading.connect() as connection:
        assert backend(connection) == first


def test_who_asks_does_not_meet_a_session_that_was_ended(reading: Engine, engine: Engine) -> None:
    with reading.connect() as connection:
        ended = backend(connection)
    with engine.connect() as other:
        end = text("SELECT pg_terminate_backend(:pid, 10000)")
        assert other.execute(end, {"pid": ended}).scalar_one()
    with reading.connect() as connection:
        assert backend(connection) != ended
        assert step_store.states(connection, [TaskId(1)]) == {}


def test_json_is_read_as_everywhere_else(reading: Engine) -> None:
    """A number that JSON can hold and 64 bits cannot is no integer: nobody would read that."""
    with reading.connect() as connection:
        connection.execute(PROCESS)
        driver = connection.connection.driver_connection
        assert isinstance(driver, PipeliningConnection)
        statement = Statement("tests_json", b"SELECT '[1e308, 7]'::jsonb AS found", ())
        (row,) = driver.statements.execute(statement, ()).rows
        assert row.found == [1e308, 7]
        assert [type(each) for each in row.found] == [float, int]
