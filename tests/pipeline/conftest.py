"""Worlds: a core on this test's own database; what they leave behind must break no invariant."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from tasker_zmq.store.reads.invariants import check_invariants
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import World

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(engine: Engine, manual_clock: ManualClock) -> Iterator[MakeWorld]:
    """Makes worlds with numbers of the test's own."""

    def make(**more: Any) -> World:
        return World(engine, manual_clock, **more)

    yield make
    with engine.connect() as connection:
        assert check_invariants(connection) == []


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()
