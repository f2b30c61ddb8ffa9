import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import BatchCompletion, BatchError, PartialResult, StepError
from tasker_zmq.worker.durable_outbox import DurableOutbox, open_outbox
from tasker_zmq.worker.outbox import MemoryOutbox, Outbox, OutboxKey, Report, key_of

Open = Callable[..., Outbox]


def report(step_id: int, *, sequence: int = 1, batch_id: str = "b") -> PartialResult:
    return PartialResult(
        batch_id=BatchUuid(batch_id), step_id=StepId(step_id), sequence=sequence, status="completed"
    )


def keep(outbox: Outbox, *reports: Report, now: float = 0.0) -> None:
    for each in reports:
        outbox.add(key_of(each), each, now=now)


def recorded(entry: OutboxKey, **changes: Any) -> Recorded:
    found = {
        "batch_id": entry.batch_id,
        "step_id": entry.step_id,
        "sequence": entry.sequence,
        "message_type": entry.message_type,
        "verdict": "applied",
    }
    return Recorded(**(found | changes))


def waits(outbox: Outbox, times: int) -> list[float]:
    """How long the one result waits after each sending."""
    found, now = [], 0.0
    for _ in range(times):
        (entry,) = outbox.due(now)
        outbox.sent(entry.key, now=now)
        due = outbox.next_due()
        assert due is not None
        found.append(due - now)
        now = due
    return found


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Makes an empty outbox, of either kind."""
    with contextlib.ExitStack() as opened:

        def one(chance: Callable[[], float] = lambda: 1.0) -> Outbox:
            if request.param == "memory":
                return MemoryOutbox(chance)
            path = tmp_path / "outbox"
            return opened.enter_context(open_outbox(path, worker_name="w", chance=chance))

        yield one


def test_a_result_is_sent_again_after_one_second_and_then_twice_as_long(make: Open) -> None:
    outbox = make()
    keep(outbox, report(1))
    assert waits(outbox, 7) == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


@given(chance=st.floats(0, 1, exclude_max=True))
def test_chance_only_shortens_the_wait(chance: float) -> None:
    outbox = MemoryOutbox(lambda: chance)
    keep(outbox, report(1))
    assert all(0.75 <= wait <= 15.0 for wait in waits(outbox, 20))


def test_only_what_the_daemon_names_is_forgotten(make: Open) -> None:
    outbox = make()
    first, second = key_of(report(1)), key_of(report(2))
    keep(outbox, report(1), report(2))
    outbox.recorded([recorded(first, sequence=9), recorded(first, batch_id="other")])
    assert len(outbox) == 2
    outbox.recorded([recorded(first), recorded(first)])
    assert [each.key for each in outbox.due(0.0)] == [second]
    assert [each.key for each in outbox.unacknowledged(10)] == [second]


def test_what_could_not_leave_is_due_again_without_counting_as_sent(make: Open) -> None:
    outbox = make()
    keep(outbox, report(1))
    (entry,) = outbox.due(0.0)
    outbox.later(entry.key, now=0.0)
    assert outbox.due(0.5) == ()
    assert [each.sent for each in outbox.due(1.0)] == [0]


def test_hurry_makes_one_batch_or_all_due(make: Open) -> None:
    outbox = make()
    keep(outbox, report(1, batch_id="a"), report(1, batch_id="b"))
    for entry in outbox.due(0.0):
        outbox.sent(entry.key, now=0.0)
    outbox.hurry(now=0.1, batch_id=BatchUuid("b"))
    assert [each.key.batch_id for each in outbox.due(0.1)] == ["b"]
    outbox.hurry(now=0.2)
    assert {each.key.batch_id for each in outbox.due(0.2)} == {"a", "b"}


def test_the_view_of_unrecorded_results_is_bounded(make: Open) -> None:
    outbox = make()
    keep(outbox, *(report(number) for number in range(5)))
    assert [each.key.step_id for each in outbox.unacknowledged(2)] == [0, 1]


numbers = st.integers(1, 4)
reports = st.one_of(
    st.builds(report, numbers, sequence=numbers, batch_id=st.sampled_from("abc")),
    st.sampled_from("abc").map(
        lambda batch_id: BatchCompletion(
            batch_id=BatchUuid(batch_id), total_steps=1, completed_steps=1, failed_steps=0
        )
    ),
    st.sampled_from("abc").map(
        lambda batch_id: BatchError(batch_id=BatchUuid(batch_id), error=StepError(message="?"))
    ),
)


class OneContract(RuleBasedStateMachine):
    """Both outboxes are told the same and must answer the same, also after the file's process
    was killed or ended: then the memory's one is made anew from what it held."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox"
        self.now = 100.0
        self.memory = MemoryOutbox(lambda: 0.5)
        self.open()

    def open(self) -> None:
        self.opened = contextlib.ExitStack()
        self.file: DurableOutbox = self.opened.enter_context(
            open_outbox(self.path, worker_name="w", chance=lambda: 0.5)
        )

    @property
    def both(self) -> tuple[Outbox, Outbox]:
        return self.memory, self.file

    @rule(reports=st.lists(reports, min_size=1, max_size=5))
    def add(self, reports: list[Report]) -> None:
        for outbox in self.both:
            keep(outbox, *reports, now=self.now)

    @rule(seconds=st.floats(0.0, 20.0), left=st.booleans())
    def send(self, seconds: float, left: bool) -> None:  # noqa: FBT001 - drawn, not passed
        self.now += seconds
        assert self.memory.due(self.now) == self.file.due(self.now)
        self.hurry()
        for outbox in self.both:
            for entry in outbox.due(self.now):
                (outbox.sent if left else outbox.later)(entry.key, now=self.now)

    @rule(batch_id=st.sampled_from(["a", "b", None]))
    def hurry(self, batch_id: str | None = None) -> None:
        for outbox in self.both:
            outbox.hurry(now=self.now, batch_id=BatchUuid(batch_id) if batch_id else None)

    @rule(reports=st.lists(reports, max_size=5))
    def record(self, reports: list[Report]) -> None:
        for outbox in self.both:
            outbox.recorded([recorded(key_of(each)) for each in reports])

    @rule()
    def settle(self) -> None:
        assert [each.settle(now=self.now) for each in self.both] == [None, None]

    @rule()
    def restart(self) -> None:
        """In an orderly way: what was told was also written."""
        self.opened.close()
        kept = [each.report for each in self.memory.unacknowledged(100)]
        self.memory = MemoryOutbox(lambda: 0.5)
        keep(self.memory, *kept)
        self.open()

    @invariant()
    def the_answers_are_the_same(self) -> None:
        one, other = self.both
        assert len(one) == len(other)
        assert one.next_due() == other.next_due()
        assert one.batch_ids() == other.batch_ids()
        assert one.unacknowledged(100) == other.unacknowledged(100)

    def teardown(self) -> None:
        self.opened.close()
        self.folder.cleanup()


OneContract.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestOneContract = OneContract.TestCase
