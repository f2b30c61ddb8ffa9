from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import PartialResult
from tasker_zmq.worker.outbox import MemoryOutbox, OutboxKey


def key(step_id: int, sequence: int = 1, batch_id: str = "b") -> OutboxKey:
    return OutboxKey(BatchUuid(batch_id), "partial_result", StepId(step_id), sequence)


def report(step_id: int) -> PartialResult:
    return PartialResult(batch_id=BatchUuid("b"), step_id=StepId(step_id), status="completed")


def recorded(entry: OutboxKey, **changes: Any) -> Recorded:
    found = {
        "batch_id": entry.batch_id,
        "step_id": entry.step_id,
        "sequence": entry.sequence,
        "message_type": entry.message_type,
        "verdict": "applied",
    }
    return Recorded(**(found | changes))


def waits(outbox: MemoryOutbox, times: int) -> list[float]:
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


def test_a_result_is_sent_again_after_one_second_and_then_twice_as_long() -> None:
    outbox = MemoryOutbox(lambda: 1.0)
    outbox.add(key(1), report(1), now=0.0)
    assert waits(outbox, 7) == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


@given(chance=st.floats(0, 1, exclude_max=True))
def test_chance_only_shortens_the_wait(chance: float) -> None:
    outbox = MemoryOutbox(lambda: chance)
    outbox.add(key(1), report(1), now=0.0)
    assert all(0.75 <= wait <= 15.0 for wait in waits(outbox, 20))


def test_only_what_the_daemon_names_is_forgotten() -> None:
    outbox = MemoryOutbox(lambda: 1.0)
    for number in (1, 2):
        outbox.add(key(number), report(number), now=0.0)
    outbox.recorded([recorded(key(1), sequence=9), recorded(key(1), batch_id="other")])
    assert len(outbox) == 2
    outbox.recorded([recorded(key(1)), recorded(key(1))])
    assert [each.key for each in outbox.due(0.0)] == [key(2)]
    assert [each.key for each in outbox.unacknowledged(10)] == [key(2)]


def test_what_could_not_leave_is_due_again_without_counting_as_sent() -> None:
    outbox = MemoryOutbox(lambda: 1.0)
    outbox.add(key(1), report(1), now=0.0)
    (entry,) = outbox.due(0.0)
    outbox.later(entry.key, now=0.0)
    assert outbox.due(0.5) == ()
    assert [each.sent for each in outbox.due(1.0)] == [0]


def test_hurry_makes_one_batch_or_all_due() -> None:
    outbox = MemoryOutbox(lambda: 1.0)
    for batch_id in ("a", "b"):
        outbox.add(key(1, batch_id=batch_id), report(1), now=0.0)
    for entry in outbox.due(0.0):
        outbox.sent(entry.key, now=0.0)
    outbox.hurry(now=0.1, batch_id=BatchUuid("b"))
    assert [each.key.batch_id for each in outbox.due(0.1)] == ["b"]
    outbox.hurry(now=0.2)
    assert {each.key.batch_id for each in outbox.due(0.2)} == {"a", "b"}


def test_the_view_of_unrecorded_results_is_bounded() -> None:
    outbox = MemoryOutbox(lambda: 1.0)
    for number in range(5):
        outbox.add(key(number), report(number), now=0.0)
    assert [each.key for each in outbox.unacknowledged(2)] == [key(0), key(1)]
