"""Waits between attempts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.retry import ASKED_SECONDS_MAX, asked_attempt_at, next_attempt_at
from tasker_zmq.domain.template import Backoff, BackoffKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

chances = st.floats(0, 1, exclude_max=True)
jitters = st.floats(0, 1)
attempts = st.integers(1, 100)
backoffs = st.builds(
    Backoff,
    kind=st.sampled_from(BackoffKind),
    base_ms=st.integers(0, 3_600_000),
    ceiling_ms=st.integers(0, 86_400_000),
)


def wait_ms(backoff: Backoff, attempt: int) -> float:
    due = next_attempt_at(backoff, attempt=attempt, failed_at=NOON, chance=0.0, jitter=0.0)
    return (due - NOON) / timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        (BackoffKind.EXPONENTIAL, [100, 200, 400, 800, 1_000, 1_000]),
        (BackoffKind.LINEAR, [100, 200, 300, 400, 500, 600]),
        (BackoffKind.CONSTANT, [100] * 6),
    ],
)
def test_waits_grow_as_their_kind_says_up_to_the_ceiling(
    kind: BackoffKind, waits: list[int]
) -> None:
    backoff = Backoff(kind=kind, base_ms=100, ceiling_ms=1_000)
    assert [wait_ms(backoff, attempt) for attempt in range(1, 7)] == waits


@given(backoff=backoffs, attempt=attempts, chance=chances, jitter=jitters)
def test_a_retry_is_never_past_the_ceiling_and_never_earlier_than_the_jitter_allows(
    backoff: Backoff, attempt: int, chance: float, jitter: float
) -> None:
    due = next_attempt_at(backoff, attempt=attempt, failed_at=NOON, chance=chance, jitter=jitter)
    unspread = wait_ms(backoff, attempt)
    rounding = timedelta(microseconds=1)
    assert due <= NOON + timedelta(milliseconds=backoff.ceiling_ms)
    assert due <= NOON + timedelta(milliseconds=unspread)
    assert due >= NOON + timedelta(milliseconds=unspread * (1 - jitter)) - rounding


@given(backoff=backoffs, attempt=attempts, chance=chances, jitter=jitters)
def test_with_equal_chance_a_later_attempt_never_waits_less(
    backoff: Backoff, attempt: int, chance: float, jitter: float
) -> None:
    first, second = (
        next_attempt_at(backoff, attempt=each, failed_at=NOON, chance=chance, jitter=jitter)
        for each in (attempt, attempt + 1)
    )
    assert first <= second


@given(asked=st.floats())
def test_a_wait_that_the_worker_asked_for_stays_between_now_and_a_day(asked: float) -> None:
    due = asked_attempt_at(failed_at=NOON, retry_after_seconds=asked)
    assert NOON <= due <= NOON + timedelta(seconds=ASKED_SECONDS_MAX)


def test_a_sensible_wait_that_the_worker_asked_for_is_kept() -> None:
    assert asked_attempt_at(failed_at=NOON, retry_after_seconds=2.5) == NOON + timedelta(
        seconds=2.5
    )
