"""Two daemons are asked to decide the same at once: it is decided once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.domain import control as rules
from tasker_zmq.domain.control import StepAction
from tasker_zmq.domain.ids import CoreId, StepId
from tasker_zmq.domain.states import StepState
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.store import connection as connections
from tasker_zmq.store import control
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.control import Closing, StepMoves
from tasker_zmq.store.reads.dead_letters import LetterFilter
from tasker_zmq.store.reads.invariants import check_invariants
from tasker_zmq.store.tables import DeadLetterStatus
from tasker_zmq.testing import ManualClock
from tests.store.meanwhile import meanwhile
from tests.store.seeding import CORE, told

OPEN = LetterFilter(status=DeadLetterStatus.OPEN)


@dataclass(frozen=True)
class Failed:
    """A step in error with its open letter, in a task in error."""

    engine: Engine
    step_id: StepId
    now: datetime

    def retry(self, connection: Connection, core_id: CoreId = CORE) -> None:
        moves = StepMoves(
            step_ids=[self.step_id],
            from_states=rules.states_before(StepAction.RETRY),
            to_state=StepState.PENDING,
            event=rules.STEP_EVENTS[StepAction.RETRY],
            results="null",
            metadata="{}",
        )
        control.move_steps(connection, moves, core_id=core_id, now=self.now)

    def letters(self, connection: Connection) -> list[Any]:
        return list(
            control.load_matching_letters(connection, OPEN, after=0, up_to=1_000, at_most=10)
        )

    def close(self, connection: Connection, by: str) -> list[int]:
        closing = Closing(status=DeadLetterStatus.REQUEUED, by=by, why="so")
        return control.close_letters(connection, closing, step_ids=[self.step_id], now=self.now)


@pytest.fixture
def failed(database_url: str, manual_clock: ManualClock) -> Iterator[Failed]:
    limits = ConnectionLimits(lock_timeout_seconds=60, statement_timeout_seconds=60)
    engine = connections.create(database_url, purpose="tests", limits=limits, pool_size=5)
    with engine.begin() as connection:
        cast = told(connection, manual_clock)
        step_id = cast.story.step(cast.failed, "charge")
    yield Failed(engine, step_id, manual_clock.now())
    with engine.connect() as connection:
        assert check_invariants(connection) == []
    engine.dispose()


def test_letters_that_another_daemon_decides_are_no_longer_open_when_it_is_done(
    failed: Failed,
) -> None:
    with failed.engine.begin() as first:
        assert len(failed.letters(first)) == 1
        second = meanwhile(failed.engine, failed.letters)
        assert not second.done()
        failed.retry(first)
        failed.close(first, "anna")
    assert second.result() == []


def test_a_letter_is_closed_by_one_person_only(failed: Failed) -> None:
    with failed.engine.begin() as first:
        failed.retry(first)
        assert len(failed.close(first, "anna")) == 1
        second = meanwhile(failed.engine, lambda other: failed.close(other, "berta"))
    assert second.result() == []
    with failed.engine.connect() as reading:
        found = reading.execute(text("SELECT decided_by FROM tasker_dead_letters")).scalars()
        assert list(found) == ["anna"]


def test_a_step_is_retried_once_by_two_at_once_and_the_second_looks_again(failed: Failed) -> None:
    with failed.engine.begin() as first:
        failed.retry(first)
        second = meanwhile(failed.engine, failed.retry)
        assert not second.done()
        failed.close(first, "anna")
    with pytest.raises(StaleWriteError):
        second.result()
