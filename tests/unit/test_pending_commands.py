"""What the daemon told workers: answered by the right sign, in time, or given up."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.commands.pending import (
    ANSWERED_WITHIN,
    CANCEL_STEPS,
    GOODBYE,
    HEARTBEAT,
    PING,
    SHUTDOWN,
    PendingCommand,
    PendingCommands,
)
from tasker_zmq.domain.ids import SessionId, StepId
from tasker_zmq.testing import ManualClock

NOW = ManualClock().now()
SESSION, OTHER = SessionId("s1"), SessionId("s2")


def told(
    kind: str, *, session: SessionId = SESSION, command_id: str = "c", steps: tuple[int, ...] = ()
) -> PendingCommand:
    return PendingCommand(
        command_id=command_id,
        command_type=kind,
        session_id=session,
        sent_at=NOW,
        due_at=NOW + timedelta(seconds=ANSWERED_WITHIN[kind]),
        step_ids=frozenset(StepId(each) for each in steps),
    )


def test_a_ping_is_answered_by_the_next_heartbeat_of_its_own_session() -> None:
    pending = PendingCommands()
    pending.begin(told(PING))
    assert pending.hear(OTHER, HEARTBEAT) == []
    assert pending.hear(SESSION, HEARTBEAT) == [told(PING)]
    assert pending.hear(SESSION, HEARTBEAT) == []
    assert pending.expire(NOW + timedelta(days=1)) == []


def test_a_cancellation_is_answered_by_a_heartbeat_that_names_none_of_its_steps() -> None:
    pending = PendingCommands()
    pending.begin(told(CANCEL_STEPS, steps=(1, 2)))
    assert pending.waits_for_steps(SESSION)
    assert pending.hear(SESSION, HEARTBEAT, {StepId(2), StepId(3)}) == []
    assert pending.hear(SESSION, HEARTBEAT, {StepId(3)}) == [told(CANCEL_STEPS, steps=(1, 2))]
    assert not pending.waits_for_steps(SESSION)


def test_a_shutdown_is_answered_by_the_goodbye_only() -> None:
    pending = PendingCommands()
    pending.begin(told(SHUTDOWN))
    assert pending.hear(SESSION, HEARTBEAT) == []
    assert pending.hear(SESSION, GOODBYE) == [told(SHUTDOWN)]


def test_what_is_not_answered_in_time_is_late_once() -> None:
    pending = PendingCommands()
    pending.begin(told(PING))
    assert pending.expire(NOW + timedelta(seconds=1.9)) == []
    assert pending.expire(NOW + timedelta(seconds=2)) == [told(PING)]
    assert pending.expire(NOW + timedelta(seconds=3)) == []
    assert pending.hear(SESSION, HEARTBEAT) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "hear", "goodbye", "expire"]),
            st.sampled_from([PING, CANCEL_STEPS, SHUTDOWN]),
            st.sampled_from([SESSION, OTHER]),
            st.integers(0, 9),
        )
    )
)
def test_each_is_ended_once_and_never_more_wait_than_may(
    deeds: list[tuple[str, str, SessionId, int]],
) -> None:
    pending, waiting, now = PendingCommands(at_most=4), 0, NOW
    for number, (deed, kind, session, seconds) in enumerate(deeds):
        if deed == "begin":
            gone = pending.begin(told(kind, session=session, command_id=str(number)))
            waiting += 1
        elif deed == "expire":
            now += timedelta(seconds=seconds)
            gone = pending.expire(now)
            assert all(each.due_at <= now for each in gone)
        else:
            gone = pending.hear(session, GOODBYE if deed == "goodbye" else HEARTBEAT)
            assert {each.session_id for each in gone} <= {session}
        waiting -= len(gone)
        assert len(pending) == waiting <= 4
    assert len(pending.hear(SESSION, GOODBYE) + pending.hear(OTHER, GOODBYE)) == waiting
    assert len(pending) == 0
    assert not pending._ids
