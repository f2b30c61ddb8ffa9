"""Lists become arrays, as literals or in the binary format, that the server reads as the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.errors import DataError, error_from_result
from psycopg.pq import ExecStatus, Format
from sqlalchemy import Connection, Engine

from tasker_zmq.domain.states import StepState
from tasker_zmq.store.arrays import LONG, array, literal

characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
moments = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=30))]),
)
TYPES: dict[str, st.SearchStrategy[Any]] = {
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "boolean": st.booleans(),
    "text": st.text(characters) | st.text(characters, min_size=LONG),
    "double precision": st.floats(allow_nan=False),
    "timestamptz": moments,
    "bytea": st.binary(),
}
lists = st.sampled_from(sorted(TYPES)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(st.none() | TYPES[name], max_size=8))
)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as opened:
        yield opened


def read_back(connection: Connection, name: str, values: list[Any]) -> list[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    dumped, binary = array(values)
    formats = [Format.BINARY if binary else Format.TEXT]
    query = f"SELECT CAST($1 AS {name}[])".encode()
    result = driver.pgconn.exec_params(query, [dumped], param_formats=formats)
    if result.status != ExecStatus.TUPLES_OK:
        raise error_from_result(result)
    found = Transformer(driver)
    found.set_pgresult(result)
    ((values,),) = found.load_rows(0, 1, tuple)
    return values


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=lists)
def test_what_goes_as_an_array_comes_back_the_same(
    connection: Connection, typed: tuple[str, list[Any]]
) -> None:
    name, values = typed
    assert read_back(connection, name, values) == values


SYNTAX = ["", "NULL", "null", '"', "\\", '\\"', "{}", "{a,b}", ",", " a ", "a\nb", "é", "'", "%s"]


def test_text_that_looks_like_syntax_is_text(connection: Connection) -> None:
    assert read_back(connection, "text", [*SYNTAX, None]) == [*SYNTAX, None]


@pytest.mark.parametrize("first", ["a", "a" * LONG])
def test_a_text_that_no_text_of_postgresql_can_be_is_refused_and_never_two(
    connection: Connection, first: str
) -> None:
    with pytest.raises(DataError):
        read_back(connection, "text", [first, "b\0c"])


def test_long_texts_are_binary_whatever_follows_them(connection: Connection) -> None:
    values = ["x" * LONG, None, *SYNTAX, "é" * 1_000]
    assert array(values)[1]
    assert not array(SYNTAX)[1]
    assert read_back(connection, "text", values) == values


def test_words_of_an_enumeration_are_text() -> None:
    assert literal([StepState.PENDING, None]) == '{"pending",NULL}'


def test_a_type_without_a_literal_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="dict"):
        literal([{"a": 1}])
