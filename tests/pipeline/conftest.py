"""Worlds: a core on an emptied database; what they leave behind must break no invariant."""

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.daemon.engine import EngineParts, EngineThread
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.store import connection, schema
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.reads.invariants import check_invariants
from tasker_zmq.store.tables import Base
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import World
from tests import databases

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def shared_engine(server_url: str, template_database: str) -> Iterator[Engine]:
    """One database for all these tests: to empty it takes a thirtieth of making another."""
    name = f"tasker_tests_{os.getpid()}_pipeline"
    with databases.database(server_url, name, template=template_database) as url:
        made = connection.create(url, purpose="tests", limits=ConnectionLimits(), pool_size=5)
        yield made
        made.dispose()


def empty(engine: Engine) -> None:
    """Remove all rows; the ledger, which refuses DELETE, loses those of its partitions."""
    with engine.begin() as emptying:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in schema.PARTITIONED:
                emptying.execute(table.delete())
        for parent in schema.PARTITIONED:
            held = "SELECT DISTINCT tableoid::regclass::text FROM " + parent  # noqa: S608
            for (partition,) in emptying.execute(text(held)).fetchall():
                emptying.execute(text(f"TRUNCATE {partition}"))


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    empty(shared_engine)
    return shared_engine


@pytest.fixture
def make_world(engine: Engine, manual_clock: ManualClock) -> Iterator[MakeWorld]:
    """Makes worlds with numbers of the test's own."""

    def make(**more: Any) -> World:
        return World(engine, manual_clock, **more)

    yield make
    with engine.connect() as open_connection:
        assert check_invariants(open_connection) == []


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture
def thread(world: World) -> Iterator[EngineThread]:
    """An engine over the world's core, of which a test runs the part that it is about."""
    made = EngineThread(
        EngineParts(
            tick=world.ticking,
            state=world.state,
            tuning=world.tuning,
            database=world.engine,
            mailbox=Mailbox(messages_max=10, bytes_max=1_000_000),
            send=lambda _outbox: None,
            clock=world.clock,
            dice=random.Random(1),
            messages_max=10,
            commands_max=10,
            ticked=lambda: None,
        )
    )
    yield made
    made._drop_connection()
