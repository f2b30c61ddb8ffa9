"""The databases that tests get."""

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.store import schema
from tests import databases


def rows_of(engine: Engine) -> int:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO tasker_task_namespaces (name, created_at) VALUES ('mine', now())")
        )
        found = connection.execute(text("SELECT count(*) FROM tasker_task_namespaces"))
        return int(found.scalar_one())


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_migrated_database_that_no_other_test_has_touched(
    turn: int, engine: Engine
) -> None:
    assert rows_of(engine) == 1, f"turn {turn}"
    with engine.connect() as connection:
        assert schema.version(connection).current


def test_a_server_that_is_named_comes_before_everything_else() -> None:
    choice = databases.choose(
        {"TASKER_TEST_DATABASE_URL": "postgres://ann@db.example/orders", "DB": "docker"}
    )
    assert (choice.kind, choice.url) == ("url", "postgresql+psycopg://ann@db.example/orders")


@pytest.mark.parametrize("kind", ["docker", "embedded"])
def test_the_kind_can_be_forced(kind: str) -> None:
    assert databases.choose({"DB": kind}).kind == kind


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="wanted DB=docker or DB=embedded, found DB=oracle"):
        databases.choose({"DB": "oracle"})
