"""Which session gets a step: the least loaded for its size, while it has room."""

import importlib.metadata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.daemon import strategies
from tasker_zmq.domain.selection import (
    STRATEGIES,
    Candidate,
    by_priority,
    least_loaded,
    round_robin,
    select,
)
from tasker_zmq.errors import SettingsError


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate[int]]:
    sizes = st.integers(0, 12)
    return [
        Candidate(
            key=key,
            holding=draw(sizes),
            concurrency=draw(st.integers(1, 8)),
            room=draw(sizes),
            priority=draw(st.integers(99, 101)),
            last_turn=draw(st.integers(0, 3)),
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


@pytest.mark.parametrize("name", STRATEGIES)
@given(candidates=candidate_lists(), steps=st.integers(0, 40))
def test_no_strategy_chooses_more_than_there_is_room_for_nor_leaves_room_unused(
    name: str, candidates: list[Candidate[int]], steps: int
) -> None:
    chosen, problem = select(STRATEGIES[name], candidates, steps)
    assert problem is None
    assert len(chosen) == min(steps, sum(each.room for each in candidates))


@given(candidate_lists(), st.integers(0, 40))
def test_in_turn_nobody_gets_two_more_than_one_that_still_has_room(
    candidates: list[Candidate[int]], steps: int
) -> None:
    got = Counter(round_robin(candidates, steps))
    most = max(got.values(), default=0)
    assert all(got[each.key] >= most - 1 for each in candidates if got[each.key] < each.room)


def test_whose_turn_was_longest_ago_begins() -> None:
    turns = {"late": 7, "early": 2, "never": 0}
    candidates = [
        Candidate(key=key, holding=0, concurrency=1, room=9, last_turn=turn)
        for key, turn in turns.items()
    ]
    assert round_robin(candidates, 4) == ["never", "early", "late", "never"]


@given(candidate_lists(), st.integers(0, 40))
def test_nobody_is_chosen_while_one_of_a_higher_priority_has_room(
    candidates: list[Candidate[int]], steps: int
) -> None:
    got = Counter(by_priority(candidates, steps))
    with_room = [each.priority for each in candidates if got[each.key] < each.room]
    highest = max(with_room, default=None)
    if highest is not None:
        assert all(each.priority >= highest for each in candidates if got[each.key])


def test_of_equally_loaded_sessions_the_preferred_one_is_chosen() -> None:
    plain = session("plain")
    preferred = Candidate(key="preferred", holding=0, concurrency=1, room=9, priority=200)
    assert least_loaded([plain, preferred], 3) == ["preferred", "plain", "preferred"]


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        (["a", "a", "a"], "3 chosen for 2 steps"),
        (["stranger"], "'stranger' chosen 1 times, with room for 0"),
        (["b", "b"], "'b' chosen 2 times, with room for 1"),
        (None, "it raised TypeError"),
    ],
)
def test_nonsense_of_a_strategy_is_replaced_and_told(
    chosen: list[str] | None, problem: str
) -> None:
    candidates = [session("a", holding=1), session("b", room=1)]
    found, told = select(lambda _candidates, _steps: chosen, candidates, 2)  # type: ignore[arg-type,return-value]
    assert found == ["b", "a"]
    assert told is not None
    assert problem in told


def test_strategies_are_found_by_name_and_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strategies.strategy_of("round_robin") is round_robin
    brought = importlib.metadata.EntryPoint("mine", f"{__name__}:last_first", strategies.GROUP)
    broken = importlib.metadata.EntryPoint("broken", "no_such_module:x", strategies.GROUP)
    monkeypatch.setattr(strategies, "entry_points", lambda **_: [brought, broken])
    assert strategies.strategy_of("mine") is last_first
    with pytest.raises(SettingsError, match="did you mean 'round_robin'"):
        strategies.strategy_of("round_robbin")
    with pytest.raises(SettingsError, match="cannot be imported"):
        strategies.strategy_of("broken")


def last_first(candidates: list[Candidate[int]], steps: int) -> list[int]:
    return [each.key for each in reversed(candidates) if each.room][:steps]
