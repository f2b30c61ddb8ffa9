"""What a worker's word about a step means for that step: the one place that decides it.

Workers speak in result statuses, steps live in step states; the two meet here and nowhere else.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from tasker_zmq.domain.retry import asked_attempt_at, next_attempt_at
from tasker_zmq.domain.states import StepEvent, StepState
from tasker_zmq.domain.template import Backoff


class ResultStatus(StrEnum):
    """What a worker says; never a step's state."""

    COMPLETED = "completed"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"


class Verdict(StrEnum):
    """What became of a received message."""

    APPLIED = "applied"
    NOTED = "noted"  # a sign of life: it moves nothing, so it must not count as the one applied
    DUPLICATE = "duplicate"
    STALE = "stale"
    LATE = "late"
    UNKNOWN_BATCH = "unknown_batch"
    REJECTED = "rejected"


class DeadLetterReason(StrEnum):
    """Why nobody will try a step, or a message, again."""

    MAX_ATTEMPTS_EXCEEDED = "max_attempts_exceeded"
    PERMANENT_ERROR = "permanent_error"
    MAX_LOSSES_EXCEEDED = "max_losses_exceeded"
    IN_DOUBT = "in_doubt"
    UNDECODABLE = "undecodable"
    MANUAL = "manual"


_STATUSES: Final = {
    "completed": ResultStatus.COMPLETED,
    "complete": ResultStatus.COMPLETED,
    "success": ResultStatus.COMPLETED,
    "failed": ResultStatus.FAILED,
    "error": ResultStatus.FAILED,
    "in_progress": ResultStatus.IN_PROGRESS,
}


def result_status(word: str) -> ResultStatus | None:
    """The status that a worker's word stands for; None when no worker we know says it."""
    return _STATUSES.get(word)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the message says; `retryable` is None when it says nothing about that."""

    status: ResultStatus
    retryable: bool | None = None
    retry_after_seconds: float | None = None


class StepFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The step as it is now; `attempts` counts its sendings, the one reported on included.

    `unheard`: its current batch ended without a word about it, so that a late one is welcome.
    """

    state: StepState
    in_current_batch: bool
    attempts: int
    retry_limit: int
    retryable: bool
    backoff: Backoff
    losses: int = 0
    unheard: bool = False
    task_cancelled: bool = False


class StepDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to do with the step; without an event it stays as it is."""

    verdict: Verdict
    event: StepEvent | None = None
    next_attempt_at: datetime | None = None
    dead_letter_reason: DeadLetterReason | None = None
    reason: str = ""


def decide(
    outcome: Outcome, step: StepFacts, *, now: datetime, chance: float, jitter: float
) -> StepDecision:
    """What `outcome` does to `step`; `chance` in [0, 1) and `jitter` spread the retries."""
    if not step.in_current_batch:
        return StepDecision(
            verdict=Verdict.STALE, reason="the step was sent again in another batch since"
        )
    if step.state is not StepState.IN_PROGRESS:
        return _not_in_progress(step, outcome.status)
    match outcome.status:
        case ResultStatus.COMPLETED:
            return StepDecision(verdict=Verdict.APPLIED, event=StepEvent.COMPLETE)
        case ResultStatus.IN_PROGRESS:
            return StepDecision(verdict=Verdict.NOTED)
        case ResultStatus.FAILED:
            return decide_failure(outcome, step, now=now, chance=chance, jitter=jitter)
        case _:
            assert_never(outcome.status)


def decide_failure(
    outcome: Outcome, step: StepFacts, *, now: datetime, chance: float, jitter: float
) -> StepDecision:
    """Another attempt or the end, for a step in progress that failed (or ran out of its time)."""
    if step.task_cancelled:
        return StepDecision(
            verdict=Verdict.APPLIED, event=StepEvent.CANCEL, reason="its task was cancelled"
        )
    tries = step.retry_limit + 1
    if outcome.retryable is False:
        return _ended(DeadLetterReason.PERMANENT_ERROR, "the worker says that no retry helps")
    if not step.retryable:
        return _ended(
            DeadLetterReason.MAX_ATTEMPTS_EXCEEDED, "the step is declared as not retryable"
        )
    tried = step.attempts - step.losses
    if tried >= tries:
        return _ended(DeadLetterReason.MAX_ATTEMPTS_EXCEEDED, f"try {tried} of {tries} failed")
    if outcome.retry_after_seconds is None:
        due = next_attempt_at(
            step.backoff, attempt=max(1, tried), failed_at=now, chance=chance, jitter=jitter
        )
    else:
        due = asked_attempt_at(failed_at=now, retry_after_seconds=outcome.retry_after_seconds)
    return StepDecision(
        verdict=Verdict.APPLIED,
        event=StepEvent.POSTPONE,
        next_attempt_at=due,
        reason=f"try {tried} of {tries} failed",
    )


def _ended(dead_letter_reason: DeadLetterReason, reason: str) -> StepDecision:
    return StepDecision(
        verdict=Verdict.APPLIED,
        event=StepEvent.FAIL,
        dead_letter_reason=dead_letter_reason,
        reason=reason,
    )


_WELCOME_LATE: Final = (StepState.PENDING, StepState.WAITING_FOR_RETRY, StepState.IN_DOUBT)


def _not_in_progress(step: StepFacts, status: ResultStatus) -> StepDecision:
    """A late success of a step given up is welcome; else it is a resend, or too late."""
    if step.unheard and step.state in _WELCOME_LATE:
        if status is ResultStatus.COMPLETED:
            return StepDecision(verdict=Verdict.APPLIED, event=StepEvent.COMPLETE)
        return StepDecision(verdict=Verdict.LATE, reason="the step was given up before")
    match step.state:
        case StepState.CANCELLED | StepState.RESOLVED_MANUALLY | StepState.IN_DOUBT:
            verdict = Verdict.LATE
        case (
            StepState.COMPLETE
            | StepState.ERROR
            | StepState.WAITING_FOR_RETRY
            | StepState.PENDING
            | StepState.IN_PROGRESS
        ):
            verdict = Verdict.DUPLICATE
        case _:
            assert_never(step.state)
    return StepDecision(verdict=verdict, reason=f"the step is '{step.state}' already")
