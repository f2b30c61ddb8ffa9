"""Lists become array literals that the server reads back as the same lists."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError

from tasker_zmq.domain.states import StepState
from tasker_zmq.store.arrays import literal

characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
moments = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=30))]),
)
TYPES: dict[str, st.SearchStrategy[Any]] = {
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "boolean": st.booleans(),
    "text": st.text(characters),
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
    query = text(f"SELECT CAST(:values AS {name}[])")
    return list(connection.execute(query, {"values": literal(values)}).scalar_one())


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


def test_a_text_that_no_text_of_postgresql_can_be_is_refused_and_never_two(
    connection: Connection,
) -> None:
    with pytest.raises(DataError):
        read_back(connection, "text", ["a", "b\0c"])


def test_words_of_an_enumeration_are_text() -> None:
    assert literal([StepState.PENDING, None]) == '{"pending",NULL}'


def test_a_type_without_a_literal_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="dict"):
        literal([{"a": 1}])
