"""Whose turn it is when there are fewer places than steps."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.fairness import Line, Turns, take_turns

Step = tuple[str, str, int]


@dataclass
class Room:
    left: int

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def lines(waiting: dict[tuple[str, str], int], room: Room) -> list[Line[Step]]:
    return [
        Line(group, name, iter([(group, name, number) for number in range(count)]), room)
        for (group, name), count in waiting.items()
    ]


waiting_of_many = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz")), st.integers(1, 30), min_size=1
)


@given(waiting_of_many, st.integers(0, 60))
def test_each_group_gets_its_share_within_one_batch(
    waiting: dict[tuple[str, str], int], places: int
) -> None:
    taken = take_turns(lines(waiting, Room(places)), Turns(), at_most=1_000).steps
    assert len(taken) == min(places, sum(waiting.values()))
    got = Counter(group for group, _, _ in taken)
    wanted: Counter[str] = Counter()
    for (group, _), count in waiting.items():
        wanted[group] += count
    fullest = max(got.values(), default=0)
    for group, count in wanted.items():
        assert got[group] >= min(count, fullest - 1)


@given(waiting_of_many, st.lists(st.integers(0, 4), max_size=40))
def test_shares_are_fair_over_many_small_batches(
    waiting: dict[tuple[str, str], int], batches: list[int]
) -> None:
    left = {key: [(*key, number) for number in range(count)] for key, count in waiting.items()}
    turns, got = Turns(), Counter[str]()
    for places in batches:
        room = Room(places)
        offered = [Line(key[0], key[1], iter(steps), room) for key, steps in left.items()]
        taken = take_turns(offered, turns, at_most=1_000)
        turns.note(taken.turns)
        for step in taken.steps:
            left[step[0], step[1]].remove(step)
            got[step[0]] += 1
    hungry = {group for (group, _), steps in left.items() if steps}
    if hungry:
        assert max(got.values(), default=0) - min(got[group] for group in hungry) <= 1


@given(waiting_of_many, st.integers(0, 60))
def test_a_line_keeps_its_order(waiting: dict[tuple[str, str], int], places: int) -> None:
    taken = take_turns(lines(waiting, Room(places)), Turns(), at_most=1_000).steps
    for key in waiting:
        mine = [number for group, name, number in taken if (group, name) == key]
        assert mine == list(range(len(mine)))


def test_lines_of_one_group_take_turns_too() -> None:
    waiting = {("a", "long"): 100, ("a", "short"): 2}
    taken = take_turns(lines(waiting, Room(6)), Turns(), at_most=1_000).steps
    assert [name for _, name, _ in taken] == ["long", "short", "long", "short", "long", "long"]


def test_who_finds_no_place_of_its_own_delays_nobody() -> None:
    full, free = Room(0), Room(9)
    offered = [
        *lines({("a", "x"): 5}, full),
        *lines({("a", "y"): 2, ("b", "x"): 1}, free),
    ]
    taken = take_turns(offered, Turns(), at_most=1_000).steps
    assert taken == [("a", "y", 0), ("b", "x", 0), ("a", "y", 1)]


def test_no_more_are_taken_than_were_asked_for() -> None:
    taken = take_turns(lines({("a", "x"): 50, ("b", "x"): 50}, Room(100)), Turns(), at_most=7)
    assert Counter(group for group, _, _ in taken.steps) == {"a": 4, "b": 3}
