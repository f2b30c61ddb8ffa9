"""A worker's credit, shared out among the cores that it has a link to."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.credit import (
    BURST_MAX,
    MOMENT,
    Pace,
    burst_for,
    burst_share,
    granted_credit,
    shares,
    whole_credit,
)

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)

wholes = st.integers(1, 200)
wants = st.lists(st.integers(0, 300), max_size=8)


@given(wholes, wants)
def test_no_more_is_given_than_there_is_and_everyone_has_one(whole: int, wanted: list[int]) -> None:
    given_ = shares(whole, wanted)
    assert len(given_) == len(wanted)
    assert sum(given_) == (max(whole, len(wanted)) if wanted else 0)
    assert all(each >= 1 for each in given_)


@given(wholes, wants)
def test_nobody_gets_more_than_is_wanted_while_others_want_more(
    whole: int, wanted: list[int]
) -> None:
    given_ = shares(whole, wanted)
    if any(each < want for each, want in zip(given_, wanted, strict=True)):
        assert all(each <= max(1, want) for each, want in zip(given_, wanted, strict=True))


@given(wholes, wants)
def test_who_gets_less_than_wanted_has_as_much_as_anyone(whole: int, wanted: list[int]) -> None:
    given_ = shares(whole, wanted)
    for each, want in zip(given_, wanted, strict=True):
        if each < want:
            assert each >= max(given_) - 1


def test_a_busy_core_gets_what_idle_ones_leave() -> None:
    assert shares(8, [0, 100, 0]) == [1, 6, 1]
    assert shares(8, [100, 100]) == [4, 4]
    assert shares(8, [3, 100]) == [3, 5]
    assert shares(8, [0, 0, 0]) == [3, 3, 2]
    assert shares(8, []) == []
    assert shares(2, [100, 100, 100]) == [1, 1, 1]


@given(st.integers(1, 100), st.floats(1, 10), st.integers(-5, 2_000) | st.none())
def test_what_is_granted_is_part_of_the_whole(
    concurrency: int, factor: float, granted: int | None
) -> None:
    whole = whole_credit(concurrency, factor)
    assert 1 <= granted_credit(whole, granted) <= whole
    assert granted_credit(whole, None) == whole


@given(st.integers(0, 3_000), st.integers(3, 200), st.data())
def test_a_core_s_part_of_a_burst_is_its_part_of_the_credit(
    burst: int, whole: int, data: st.DataObject
) -> None:
    given_ = shares(whole, [data.draw(st.integers(0, 300)) for _ in range(3)])
    parts = [burst_share(burst, credit=each, whole=whole) for each in given_]
    assert all(part >= each for part, each in zip(parts, given_, strict=True))
    assert sum(parts) <= max(burst, whole) + whole
    assert burst_share(burst, credit=whole, whole=whole) == max(burst, whole)


@given(st.integers(1, 10_000))
def test_a_worker_of_ours_takes_bursts_of_several_times_its_concurrency(concurrency: int) -> None:
    assert concurrency <= burst_for(concurrency) <= BURST_MAX


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=30), st.floats(0, 1))
def test_a_pace_counts_what_ended_in_the_last_two_moments_and_nothing_older(
    ended: list[tuple[int, float]], later: float
) -> None:
    pace, now = Pace(), BEGINNING
    when: list[tuple[datetime, int]] = []
    for steps, gap in ended:
        now += timedelta(seconds=gap)
        pace.note(steps, now)
        when.append((now, steps))
    now += timedelta(seconds=later)
    assert pace.lately(now) <= sum(steps for at, steps in when if at > now - 2 * MOMENT)


def test_a_pace_is_what_a_moment_holds() -> None:
    pace = Pace()
    assert pace.lately(BEGINNING) == 0
    for number in range(8):  # two moments, four times ten in each
        pace.note(10, BEGINNING + number * MOMENT / 4)
    last = BEGINNING + 7 * MOMENT / 4
    assert pace.lately(last) == 40
    assert pace.lately(last + MOMENT / 2) == 40
    assert pace.lately(last + 2 * MOMENT) == 0
