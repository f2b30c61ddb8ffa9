"""What a worker's word about a step means for the step."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.results import (
    DeadLetterReason,
    Outcome,
    ResultStatus,
    StepDecision,
    StepFacts,
    Verdict,
    decide,
    result_status,
)
from tasker_zmq.domain.states import STEP, StepEvent, StepState
from tasker_zmq.domain.template import Backoff

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMPLETED = Outcome(status=ResultStatus.COMPLETED)
FAILED = Outcome(status=ResultStatus.FAILED)
STARTED = Outcome(status=ResultStatus.IN_PROGRESS)
BACKOFF = Backoff(base_ms=1_000, ceiling_ms=30_000)


def a_step(**changes: Any) -> StepFacts:
    facts: dict[str, Any] = {
        "state": StepState.IN_PROGRESS,
        "in_current_batch": True,
        "attempts": 1,
        "retry_limit": 3,
        "retryable": True,
        "backoff": BACKOFF,
    }
    return StepFacts(**facts | changes)


def decided(outcome: Outcome, step: StepFacts) -> StepDecision:
    return decide(outcome, step, now=NOON, chance=0.0, jitter=0.5)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("completed", ResultStatus.COMPLETED),
        ("complete", ResultStatus.COMPLETED),
        ("success", ResultStatus.COMPLETED),
        ("failed", ResultStatus.FAILED),
        ("error", ResultStatus.FAILED),
        ("in_progress", ResultStatus.IN_PROGRESS),
        ("COMPLETED", None),
        ("done", None),
        ("", None),
    ],
)
def test_each_word_that_workers_use_has_one_meaning_and_others_have_none(
    word: str, status: ResultStatus | None
) -> None:
    assert result_status(word) is status


def test_a_completed_step_completes() -> None:
    decision = decided(COMPLETED, a_step())
    assert (decision.verdict, decision.event) == (Verdict.APPLIED, StepEvent.COMPLETE)


def test_a_started_step_is_noted_and_stays_where_it_is() -> None:
    decision = decided(STARTED, a_step())
    assert (decision.verdict, decision.event) == (Verdict.NOTED, None)


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, STARTED])
@pytest.mark.parametrize("state", StepState)
def test_a_word_about_another_batch_than_the_current_one_is_stale_in_every_state(
    outcome: Outcome, state: StepState
) -> None:
    decision = decided(outcome, a_step(state=state, in_current_batch=False))
    assert (decision.verdict, decision.event) == (Verdict.STALE, None)


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, STARTED])
@pytest.mark.parametrize(
    "state",
    [StepState.COMPLETE, StepState.ERROR, StepState.WAITING_FOR_RETRY, StepState.PENDING],
)
def test_a_word_repeated_after_it_was_applied_is_a_duplicate(
    outcome: Outcome, state: StepState
) -> None:
    decision = decided(outcome, a_step(state=state))
    assert (decision.verdict, decision.event) == (Verdict.DUPLICATE, None)


@pytest.mark.parametrize(
    "state", [StepState.CANCELLED, StepState.RESOLVED_MANUALLY, StepState.IN_DOUBT]
)
def test_a_word_after_someone_else_decided_is_late(state: StepState) -> None:
    assert decided(COMPLETED, a_step(state=state)).verdict is Verdict.LATE


@pytest.mark.parametrize(("retry_limit", "tries"), [(0, 1), (1, 2), (3, 4)])
def test_a_retry_limit_counts_the_tries_after_the_first(retry_limit: int, tries: int) -> None:
    steps = [a_step(attempts=each, retry_limit=retry_limit) for each in range(1, tries + 1)]
    events = [decided(FAILED, step).event for step in steps]
    assert events == [StepEvent.POSTPONE] * (tries - 1) + [StepEvent.FAIL]


def test_the_last_attempt_ends_the_step_as_a_dead_letter_that_says_so() -> None:
    decision = decided(FAILED, a_step(attempts=4))
    assert decision.dead_letter_reason is DeadLetterReason.MAX_ATTEMPTS_EXCEEDED
    assert decision.reason == "try 4 of 4 failed"


def test_a_step_that_is_not_retryable_runs_once_and_ends_with_its_first_failure() -> None:
    assert decided(COMPLETED, a_step(retryable=False)).event is StepEvent.COMPLETE
    assert decided(FAILED, a_step(retryable=False)).event is StepEvent.FAIL


def test_a_permanent_error_ends_the_step_whatever_attempts_are_left() -> None:
    outcome = Outcome(status=ResultStatus.FAILED, retryable=False, retry_after_seconds=1.0)
    decision = decided(outcome, a_step())
    assert decision.event is StepEvent.FAIL
    assert decision.dead_letter_reason is DeadLetterReason.PERMANENT_ERROR


def test_a_worker_cannot_lengthen_the_retry_limit_by_calling_an_error_retryable() -> None:
    outcome = Outcome(status=ResultStatus.FAILED, retryable=True)
    assert decided(outcome, a_step(attempts=4)).event is StepEvent.FAIL
    assert decided(outcome, a_step(retryable=False)).event is StepEvent.FAIL


def test_the_second_failure_waits_twice_as_long_as_the_first() -> None:
    due = [decided(FAILED, a_step(attempts=each)).next_attempt_at for each in (1, 2)]
    assert due == [NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)]


def test_the_wait_that_a_worker_asks_for_replaces_the_backoff() -> None:
    outcome = Outcome(status=ResultStatus.FAILED, retry_after_seconds=90.0)
    assert decided(outcome, a_step()).next_attempt_at == NOON + timedelta(seconds=90)


@given(
    status=st.sampled_from(ResultStatus),
    says_retryable=st.sampled_from([None, True, False]),
    retry_after=st.none() | st.floats(),
    step=st.builds(
        StepFacts,
        state=st.sampled_from(StepState),
        in_current_batch=st.booleans(),
        attempts=st.integers(1, 20),
        retry_limit=st.integers(0, 10),
        retryable=st.booleans(),
        backoff=st.just(BACKOFF),
    ),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_every_decision_follows_an_arrow_and_carries_exactly_what_its_event_needs(
    *,
    status: ResultStatus,
    says_retryable: bool | None,
    retry_after: float | None,
    step: StepFacts,
    chance: float,
) -> None:
    outcome = Outcome(status=status, retryable=says_retryable, retry_after_seconds=retry_after)
    decision = decide(outcome, step, now=NOON, chance=chance, jitter=0.5)
    assert (decision.verdict is Verdict.APPLIED) == (decision.event is not None)
    assert (decision.next_attempt_at is not None) == (decision.event is StepEvent.POSTPONE)
    assert (decision.dead_letter_reason is not None) == (decision.event is StepEvent.FAIL)
    if decision.event is not None:
        STEP.after(step.state, decision.event)
    if decision.next_attempt_at is not None:
        assert step.attempts <= step.retry_limit
        assert decision.next_attempt_at >= NOON


def test_the_values_can_be_written_into_the_ledger_as_they_are() -> None:
    assert (
        msgspec.json.decode(msgspec.json.encode(decided(FAILED, a_step(attempts=4))))[
            "dead_letter_reason"
        ]
        == "max_attempts_exceeded"
    )
