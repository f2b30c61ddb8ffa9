"""A slot whose handlers take no time tells of them together; nobody waits longer for it."""

import select
import threading
from collections.abc import Callable, Iterator

import pytest

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.testing import ManualClock
from tasker_zmq.worker.executors.executor import LOOK_SECONDS, EventInbox
from tasker_zmq.worker.executors.thread import ThreadExecutor
from tasker_zmq.worker.runs import Outcome, StepRun
from tests.worker.conftest import registry_from
from tests.worker.fake_daemon import step_request

WAIT_SECONDS = 20.0


def readable(inbox: EventInbox) -> bool:
    return bool(select.select([inbox], [], [], 0)[0])


OUTCOME = Outcome(completed=True)
KEY = (BatchUuid("b"), StepId(1))


def test_the_loop_is_not_woken_for_what_it_looks_for_anyhow() -> None:
    inbox = EventInbox()
    inbox.put(KEY, OUTCOME, more_follows=True)
    assert readable(inbox)
    inbox.take()
    inbox.look_soon(promised=True)
    inbox.put(KEY, OUTCOME, more_follows=True)
    assert not readable(inbox)
    inbox.put(KEY, OUTCOME)
    assert readable(inbox)
    assert len(inbox.take()) == 2
    inbox.put(KEY, OUTCOME, more_follows=True)
    inbox.look_soon(promised=False)
    assert readable(inbox)
    inbox.close()


class Gates:
    """Handlers that begin, and end when they are let."""

    def __init__(self) -> None:
        self._begun = threading.Semaphore(0)
        self._may_end = {number: threading.Event() for number in range(1, 10)}

    def gate(self, number: int) -> int:
        self._begun.release()
        assert self._may_end[number].wait(WAIT_SECONDS)
        return number

    def await_begin(self, runs: int) -> None:
        for _ in range(runs):
            assert self._begun.acquire(timeout=WAIT_SECONDS)

    def has_begun(self, *, seconds: float) -> bool:
        return self._begun.acquire(timeout=seconds)

    def let_end(self, *numbers: int) -> None:
        for number in numbers:
            self._may_end[number].set()


class BriskBench:
    """By its clock no handler takes any time; one has run already."""

    def __init__(self, concurrency: int) -> None:
        self.clock, self.gates, self.inbox = ManualClock(), Gates(), EventInbox()
        self.executor = ThreadExecutor(
            registry_from(gate=self.gates.gate),
            concurrency=concurrency,
            inbox=self.inbox,
            clock=self.clock,
        )
        self.executor.start()
        self.gates.let_end(1)
        self.submit(1)
        assert select.select([self.inbox], [], [], WAIT_SECONDS)[0]
        self.inbox.take()
        self.gates.await_begin(1)

    def submit(self, number: int) -> None:
        self.executor.submit(
            StepRun(
                batch_id=BatchUuid("b"),
                request=step_request(number, "gate", {"number": number}),
                output_bytes_max=1 << 20,
                nesting_max=60,
            )
        )

    def promise(self) -> None:
        """The loop says when it will look."""
        assert self.executor.next_deadline() == self.clock.monotonic() + LOOK_SECONDS

    def look(self) -> list[int]:
        """Whose outcomes the loop finds when it looks, as soon as it said it would."""
        self.clock.advance(LOOK_SECONDS)
        self.executor.expire()
        return [event.key[1] for event in self.inbox.take()]

    def look_until_one_begins(self) -> None:
        """Look whenever that was promised."""
        for _ in range(1_000):
            if self.executor.next_deadline() == self.clock.monotonic() + LOOK_SECONDS:
                self.look()
            if self.gates.has_begun(seconds=0.01):
                return
        raise AssertionError("nothing begins any more")


@pytest.fixture
def brisk() -> Iterator[Callable[[int], BriskBench]]:
    made: list[BriskBench] = []

    def one(concurrency: int) -> BriskBench:
        made.append(BriskBench(concurrency))
        return made[-1]

    yield one
    for each in made:
        each.gates.let_end(*range(1, 10))
        each.executor.stop()
        each.inbox.close()


def test_a_quick_step_is_reported_while_a_slow_one_behind_it_runs(
    brisk: Callable[[int], BriskBench],
) -> None:
    bench = brisk(1)
    for number in (2, 3, 4):
        bench.submit(number)
    bench.promise()
    bench.gates.let_end(2, 3)
    bench.gates.await_begin(3)  # the slot has the slow one now, and told of the others in silence
    assert not readable(bench.inbox)
    assert bench.look() == [2, 3]


def test_what_waits_behind_a_slow_step_gets_slots_of_its_own_at_the_next_look(
    brisk: Callable[[int], BriskBench],
) -> None:
    bench = brisk(4)
    for number in (2, 3, 4, 5):
        bench.submit(number)
    bench.gates.await_begin(1)
    bench.promise()
    assert bench.look() == []
    bench.gates.await_begin(3)


def test_the_loop_looks_again_until_every_slot_was_called(
    brisk: Callable[[int], BriskBench],
) -> None:
    bench = brisk(4)
    for number in range(2, 9):
        bench.submit(number)
    bench.gates.await_begin(1)
    bench.promise()
    bench.gates.let_end(2, 4)
    bench.gates.await_begin(1)  # the slot goes on with the third, which is slow
    bench.look()  # a second slot will have the fourth at once, and then the fifth
    for _ in range(4):  # until all four have one that is slow
        bench.look_until_one_begins()
