"""The lines in which commands wait for the engine: order within one, shares between them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.daemon.line import SHARES, Lines
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.domain.urgency import Urgency, priority_number, urgency
from tasker_zmq.pipeline.inbox import Received, ReceivedCommand

WAITING = st.lists(st.sampled_from(Urgency), max_size=60)


def filled(waiting: Sequence[Urgency]) -> Lines:
    lines = Lines()
    for number, each in enumerate(waiting):
        lines.put(ReceivedCommand((str(each.value).encode(),), str(number).encode()), each)
    return lines


def line_of(received: Received) -> Urgency:
    assert isinstance(received, ReceivedCommand)
    return Urgency(int(received.route[0]))


@given(WAITING, st.lists(st.integers(0, 20), max_size=20))
def test_all_that_is_put_is_taken_once_and_in_its_lines_order(
    waiting: Sequence[Urgency], rounds: Sequence[int]
) -> None:
    lines = filled(waiting)
    taken = [each for at_most in (*rounds, len(waiting)) for each in lines.take(at_most)]
    assert len(taken) == len(waiting)
    assert not len(lines)
    for line in Urgency:
        numbers = [
            int(each.body)
            for each in taken
            if isinstance(each, ReceivedCommand) and line_of(each) is line
        ]
        assert numbers == sorted(numbers)


@given(st.integers(0, 3), st.lists(st.integers(1, 7), min_size=1, max_size=10))
def test_while_all_wait_each_gets_its_share_and_none_starves(
    started: int, rounds: Sequence[int]
) -> None:
    period = sum(SHARES.values())
    lines = filled([each for each in Urgency for _ in range(200)])
    lines.take(started)
    taken = [line_of(each) for at_most in rounds for each in lines.take(at_most)]
    whole = [line_of(each) for each in lines.take(period)]
    assert {each: whole.count(each) for each in Urgency} == SHARES
    assert taken.count(Urgency.LOW) <= len(taken) // period + 1


def test_the_urgent_command_that_came_last_is_taken_first() -> None:
    mailbox = Mailbox(messages_max=1_000, bytes_max=1_000_000)
    for number in range(100):
        mailbox.put(ReceivedCommand((), str(number).encode()), later=True)
    mailbox.put(ReceivedCommand((), b"!"), later=True, urgency=urgency(priority_number("urgent")))
    first, *_ = mailbox.take(10, 10, 0)
    assert isinstance(first, ReceivedCommand)
    assert first.body == b"!"
    assert len(mailbox) == 91


def test_of_large_commands_fewer_are_taken_at_once_but_always_one() -> None:
    lines = Lines(bytes_max=100)
    for number, size in enumerate((500, 60, 60, 60)):
        lines.put(ReceivedCommand((), bytes([number]) * size), Urgency.NORMAL)
    assert [len(lines.take(10)) for _ in range(3)] == [1, 2, 1]


def test_words_stand_for_numbers_and_numbers_for_lines() -> None:
    assert [urgency(priority_number(word)) for word in ("low", "normal", "high", "urgent")] == [
        Urgency.LOW,
        Urgency.NORMAL,
        Urgency.HIGH,
        Urgency.URGENT,
    ]
    assert [urgency(number) for number in (-1, 0, 99, 100, 1_000)] == [
        Urgency.LOW,
        Urgency.NORMAL,
        Urgency.NORMAL,
        Urgency.HIGH,
        Urgency.URGENT,
    ]
