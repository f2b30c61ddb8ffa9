"""Which errors say that PostgreSQL cannot now, whoever asks, and which say that the asker errs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tasker_zmq.errors import UnreachableError
from tasker_zmq.store.connection import is_away, is_cancelled, sql_state, translated

AWAY = ["08006", "25006", "25P03", "25P04", "3F000", "42501", "42703", "42883", "42P01"]
AWAY += ["53000", "53100", "53200", "53300", "53400"]
AWAY += ["57P01", "57P02", "57P03", "57P05", "58000", "58030", "58P01", "XX001", "XX002"]
NOT_AWAY = ["0A000", "22003", "22021", "22P02", "22P05", "23502", "23503", "23505", "23514"]
NOT_AWAY += ["25001", "40001", "40P01", "42601", "54000", "55P03", "57014", "P0001", "XX000"]
LOOKS_MAX = 100_000


def refused(connection: Connection, statement: str) -> DBAPIError:
    with pytest.raises(DBAPIError) as found:
        connection.execute(text(statement))
    return found.value


def refused_with(engine: Engine, code: str, message: str = "refused") -> DBAPIError:
    raising = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{message}'; END $$"
    with engine.connect() as connection:
        return refused(connection, raising)


def await_ended(engine: Engine, backend: int) -> None:
    """Until this server process is gone."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    with engine.connect() as watching:
        for _ in range(LOOKS_MAX):
            if not watching.execute(query, {"pid": backend}).scalar_one():
                return
            watching.rollback()
    raise AssertionError("the server process did not end")


def test_what_postgresql_cannot_do_now_is_an_outage(engine: Engine) -> None:
    errors = [refused_with(engine, code) for code in AWAY]
    assert [sql_state(error) for error in errors] == AWAY
    assert [sql_state(error) for error in errors if is_away(error)] == AWAY
    assert [sql_state(error) for error in errors if is_away(error.orig or error)] == AWAY


def test_what_the_asker_did_wrong_or_will_soon_pass_is_no_outage(engine: Engine) -> None:
    errors = [refused_with(engine, code) for code in NOT_AWAY]
    assert [sql_state(error) for error in errors] == NOT_AWAY
    assert [sql_state(error) for error in errors if is_away(error)] == []
    assert [sql_state(error) for error in errors if is_cancelled(error)] == ["57014"]


def test_a_read_only_database_is_an_outage(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        error = refused(connection, "CREATE TABLE written (number integer)")
    assert sql_state(error) == "25006"
    assert is_away(error)


def test_a_transaction_that_postgresql_ended_because_it_rested_is_an_outage(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1ms'"))
        await_ended(engine, connection.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]
        assert is_away(refused(connection, "SELECT 1"))


def test_a_statement_that_took_too_long_was_cancelled(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL statement_timeout = '1ms'"))
        error = refused(connection, "SELECT count(*) FROM generate_series(1, 1e9)")
    assert is_cancelled(error)
    assert not is_away(error)


def test_a_server_that_is_not_there_or_a_closed_connection_is_an_outage(engine: Engine) -> None:
    with TemporaryDirectory() as nowhere:
        absent = create_engine(
            f"postgresql+psycopg:///tasker?host={Path(nowhere)}", poolclass=NullPool
        )
        with pytest.raises(DBAPIError) as unanswered:
            absent.connect()
    assert is_away(unanswered.value)
    with engine.connect() as connection:
        connection.connection.dbapi_connection.close()  # type: ignore[union-attr]
        assert is_away(refused(connection, "SELECT 1"))


def test_who_asked_is_told_whether_postgresql_is_silent_or_refuses(engine: Engine) -> None:
    for code, sentence in (
        ("53100", "the database answers, but cannot do this now: no room left; see to PostgreSQL"),
        ("57P01", "the database does not answer: no room left; check TASKER_DATABASE_URL and "),
    ):
        error = refused_with(engine, code, "no room left")
        with pytest.raises(UnreachableError) as told, translated():
            raise error
        assert str(told.value).startswith(sentence)
        assert told.value.__cause__ is None
    with pytest.raises(psycopg.errors.UniqueViolation), translated():
        raise refused_with(engine, "23505").orig or AssertionError
