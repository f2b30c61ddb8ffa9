"""Breakers: closed, open for a while, half open; one step decides."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.breaker import (
    CLOSED,
    Breaker,
    BreakerLimits,
    BreakerState,
    answered,
    failed,
)
from tasker_zmq.domain.ids import BatchId

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LIMITS = BreakerLimits(failures=3, cool_off_seconds=10, cool_off_seconds_max=40)
NOTHING: frozenset[BatchId] = frozenset()


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def opened(seconds: float = 10, *, failures: int = 3, probe: int | None = None) -> Breaker:
    return Breaker(
        failures=failures,
        opened_at=NOW,
        next_try_at=at(seconds),
        cool_off_seconds=seconds,
        last_error="it broke",
        probe=None if probe is None else BatchId(probe),
    )


@pytest.mark.parametrize(
    ("breaker", "seconds", "word", "state", "next_try"),
    [
        (CLOSED, 0, "answered", "closed", None),
        (CLOSED, 0, "failed", "closed", None),
        (Breaker(failures=1), 0, "failed", "closed", None),
        (Breaker(failures=2), 0, "answered", "closed", None),
        (Breaker(failures=2), 0, "failed", "open", 10),
        (opened(), 9.9, "failed", "open", 10),  # it had this step before
        (opened(), 9.9, "answered", "closed", None),
        (opened(), 10, "failed", "open", 30),
        (opened(), 10, "answered", "closed", None),
        (opened(20, failures=4), 20, "failed", "open", 60),
        (opened(40, failures=5), 50, "failed", "open", 90),  # no longer than the longest
    ],
)
def test_what_follows_from_an_outcome(
    breaker: Breaker, seconds: float, word: str, state: str, next_try: float | None
) -> None:
    now = at(seconds)
    after = answered() if word == "answered" else failed(breaker, LIMITS, now=now)
    assert after.state(now) == state
    assert after.next_try_at == (None if next_try is None else at(next_try))


def test_it_lets_one_step_through_once_its_cool_off_is_over_and_the_next_when_that_is_back() -> (
    None
):
    assert not opened().lets_one(at(9.9), under_way=NOTHING)
    assert opened().lets_one(at(10), under_way=NOTHING)
    assert not opened(probe=7).lets_one(at(11), under_way={BatchId(7)})
    assert opened(probe=7).lets_one(at(11), under_way={BatchId(8)})
    assert not CLOSED.lets_one(at(0), under_way=NOTHING)


def test_it_remembers_since_when_and_why() -> None:
    first = failed(Breaker(failures=2), LIMITS, now=NOW, error="no route")
    again = failed(first, LIMITS, now=at(10), error="refused")
    assert (first.opened_at, first.last_error, first.failures) == (NOW, "no route", 3)
    assert (again.opened_at, again.last_error, again.failures) == (NOW, "refused", 4)


def test_with_zero_failures_it_never_opens() -> None:
    breaker = CLOSED
    for _ in range(100):
        breaker = failed(breaker, BreakerLimits(failures=0), now=NOW)
    assert breaker == CLOSED


WORDS = st.lists(st.tuples(st.booleans(), st.floats(0, 60, allow_nan=False)), max_size=60)


@given(WORDS, st.integers(1, 6))
def test_whatever_happens_it_opens_only_after_failures_in_a_row_and_always_gets_another_try(
    words: list[tuple[bool, float]], limit: int
) -> None:
    limits = BreakerLimits(failures=limit, cool_off_seconds=5, cool_off_seconds_max=50)
    breaker, now, in_a_row = CLOSED, NOW, 0
    for fails, seconds in words:
        now += timedelta(seconds=seconds)
        before = breaker
        breaker = failed(breaker, limits, now=now) if fails else answered()
        in_a_row = in_a_row + 1 if fails else 0
        assert (breaker.state(now) is BreakerState.CLOSED) == (in_a_row < limit)
        if breaker.next_try_at is None:
            assert breaker == Breaker(failures=in_a_row)
            continue
        assert breaker.next_try_at - now <= timedelta(seconds=50)
        assert breaker.lets_one(breaker.next_try_at, under_way=NOTHING)
        if before.state(now) is BreakerState.HALF_OPEN:
            assert breaker.cool_off_seconds == min(50, 2 * before.cool_off_seconds)
        elif before.next_try_at is not None:
            assert breaker is before
