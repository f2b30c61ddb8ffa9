"""Which session gets a step: the least loaded for its size, while it has room."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.selection import Candidate, least_loaded


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate[int]]:
    sizes = st.integers(0, 12)
    return [
        Candidate(
            key=key, holding=draw(sizes), concurrency=draw(st.integers(1, 8)), room=draw(sizes)
        )
        for key in range(draw(st.integers(0, 5)))
    ]


def session(key: str, *, holding: int = 0, concurrency: int = 1, room: int = 10) -> Candidate[str]:
    return Candidate(key=key, holding=holding, concurrency=concurrency, room=room)


def test_equal_sessions_take_turns() -> None:
    assert least_loaded([session("a"), session("b")], 5) == ["a", "b", "a", "b", "a"]


def test_a_session_that_is_busy_waits_until_the_other_is_as_busy() -> None:
    assert least_loaded([session("busy", holding=2), session("idle")], 4) == [
        "idle",
        "idle",
        "busy",
        "idle",
    ]


def test_a_session_with_twice_the_slots_gets_twice_the_steps() -> None:
    chosen = least_loaded([session("small"), session("large", concurrency=2)], 9)
    assert Counter(chosen) == {"small": 3, "large": 6}


def test_nobody_is_chosen_without_candidates_room_or_steps() -> None:
    assert least_loaded([], 3) == []
    assert least_loaded([session("full", room=0)], 3) == []
    assert least_loaded([session("over", room=-1)], 3) == []
    assert least_loaded([session("a")], 0) == []


def test_a_session_that_says_zero_slots_counts_as_one() -> None:
    assert least_loaded([session("none", concurrency=0), session("one")], 2) == ["none", "one"]


@given(candidate_lists(), st.integers(0, 40))
def test_as_many_are_chosen_as_there_are_steps_and_room(
    candidates: list[Candidate[int]], steps: int
) -> None:
    chosen = least_loaded(candidates, steps)
    assert len(chosen) == min(steps, sum(each.room for each in candidates))
    given_to = Counter(chosen)
    assert all(given_to[each.key] <= each.room for each in candidates)


@given(candidate_lists(), st.integers(0, 40))
def test_no_step_goes_to_one_session_while_another_with_room_has_less_load(
    candidates: list[Candidate[int]], steps: int
) -> None:
    holding = {each.key: each.holding for each in candidates}
    left = {each.key: each.room for each in candidates}
    slots = {each.key: each.concurrency for each in candidates}
    for key in least_loaded(candidates, steps):
        open_to = [each for each, room in left.items() if room > 0]
        assert holding[key] / slots[key] == min(holding[each] / slots[each] for each in open_to)
        holding[key] += 1
        left[key] -= 1


@given(candidate_lists(), st.integers(0, 20), st.integers(0, 20))
def test_fewer_steps_are_given_as_the_first_of_more(
    candidates: list[Candidate[int]], fewer: int, more: int
) -> None:
    both = least_loaded(candidates, fewer + more)
    assert least_loaded(candidates, fewer) == both[:fewer]
