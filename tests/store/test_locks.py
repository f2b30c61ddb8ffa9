"""Named locks between cores: one owner at a time, for a time, in one life of its core."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Connection, Engine

from tasker_zmq.domain.ids import CoreId
from tasker_zmq.store import connection as connections
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.locks import Owner, acquire, release
from tasker_zmq.store.reads.ready import locks
from tasker_zmq.testing import ManualClock

AT_ONCE = 20
ANNA, BERT = Owner(CoreId("anna"), 1), Owner(CoreId("bert"), 1)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    limits = ConnectionLimits(lock_timeout_seconds=60, statement_timeout_seconds=60)
    made = connections.create(database_url, purpose="tests", limits=limits, pool_size=AT_ONCE)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as open_connection:
        yield open_connection


@pytest.fixture
def now(manual_clock: ManualClock) -> datetime:
    return manual_clock.now()


def take(connection: Connection, owner: Owner, now: datetime, *, seconds: float = 30) -> bool:
    return acquire(connection, "retention", owner, seconds=seconds, now=now)


def test_of_twenty_that_want_it_at_once_exactly_one_has_it(engine: Engine, now: datetime) -> None:
    barrier = Barrier(AT_ONCE)

    def race(number: int) -> bool:
        owner = Owner(CoreId(f"core-{number}"), 1)
        with engine.connect() as own:
            own.exec_driver_sql("SELECT 1")
            barrier.wait()
            taken = take(own, owner, now)
            own.commit()
            return taken

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sum(pool.map(race, range(AT_ONCE))) == 1


def test_it_is_renewed_by_its_owner_and_by_nobody_else(
    connection: Connection, now: datetime
) -> None:
    assert take(connection, ANNA, now)
    assert take(connection, ANNA, now + timedelta(seconds=29))
    assert not take(connection, BERT, now + timedelta(seconds=58))
    assert take(connection, BERT, now + timedelta(seconds=59))
    assert not take(connection, ANNA, now + timedelta(seconds=60))


def test_a_later_life_of_its_core_takes_it_over_and_the_earlier_one_does_not_get_it_back(
    connection: Connection, now: datetime
) -> None:
    reborn = Owner(ANNA.core_id, 2)
    assert take(connection, ANNA, now)
    assert take(connection, reborn, now)
    assert not take(connection, ANNA, now)
    assert not release(connection, "retention", ANNA)


def test_what_is_given_back_is_free_at_once(connection: Connection, now: datetime) -> None:
    assert take(connection, ANNA, now)
    assert not release(connection, "retention", BERT)
    assert release(connection, "retention", ANNA)
    assert take(connection, BERT, now)
    assert not release(connection, "retention", ANNA)


def test_locks_of_other_names_are_others(connection: Connection, now: datetime) -> None:
    assert take(connection, ANNA, now)
    assert acquire(connection, "partitions", BERT, seconds=5, now=now)
    told = locks(connection, now=now + timedelta(seconds=5))
    assert [(each["lock_name"], each["owner_core_id"], each["held"]) for each in told] == [
        ("partitions", "bert", False),
        ("retention", "anna", True),
    ]
