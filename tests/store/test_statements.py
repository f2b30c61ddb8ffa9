"""Every hot statement says what it does, can be prepared, and runs on the driver's cursor."""

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.store import statements
from tests.store.plan_cases import CASES
from tests.store.test_plans import prepared

# Of these the values name rows that are not there, which the foreign keys refuse.
WANT_ROWS = {"apply_results", "settle_batches", "start_batches", "create_tasks", "same_named_task"}


@pytest.mark.parametrize("name", statements.names())
def test_a_statement_says_first_what_it_does(name: str) -> None:
    first = statements.source(name).splitlines()[0]
    assert first.startswith(f"-- {name}: ")


@pytest.mark.parametrize("name", statements.names())
def test_a_statement_decides_by_the_time_that_it_is_given(name: str) -> None:
    source = statements.source(name).lower()
    assert not any(word in source for word in ("now()", "current_timestamp", "clock_timestamp"))


def test_every_statement_can_be_prepared(engine: Engine) -> None:
    with engine.connect() as connection:
        for name in statements.names():
            connection.exec_driver_sql(f"PREPARE {name} AS {prepared(name)[0]}")
        known = connection.execute(text("SELECT name FROM pg_prepared_statements WHERE from_sql"))
        assert sorted(row.name for row in known) == list(statements.names())


def test_a_statement_is_prepared_once_whatever_its_values(engine: Engine) -> None:
    names = sorted(set(statements.names()) - WANT_ROWS)
    with engine.connect() as connection:
        for name in names:
            values = CASES[name].values
            few = {
                key: each[:3] if isinstance(each, list) else each for key, each in values.items()
            }
            for given in (values, few, values):
                statements.run(connection, name, given)
                connection.rollback()
        query = text("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql")
        # And BEGIN, COMMIT, and this very query.
        assert connection.execute(query).scalar_one() <= len(names) + 3


def test_statements_are_undone_and_kept_with_their_transaction(engine: Engine) -> None:
    heartbeat = CASES["record_heartbeats"].values
    with engine.connect() as connection:
        statements.run(connection, "record_heartbeats", heartbeat)
        assert connection.in_transaction()
        connection.rollback()
        assert not connection.in_transaction()
