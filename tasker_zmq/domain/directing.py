"""Whether a step may be sent now to a worker that somebody names, and if not, the first reason."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from tasker_zmq.domain.explanation import span
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.domain.states import OPEN_TASK_STATES, StepState, TaskState
from tasker_zmq.domain.waiting import listed


class Why(StrEnum):
    """The word of a refusal: whose step it is, or what stands in its way."""

    REFUSED = "refused"
    ELSEWHERE = "elsewhere"


class Obstacle(NamedTuple):
    """Why a step is not sent; the sentence names the step."""

    why: Why
    message: str


@dataclass(frozen=True, kw_only=True)
class DirectedStep:
    """One step with what decides; `worker` has it in progress, `parents` are not done yet."""

    step_id: int
    name: str
    state: StepState
    parents: tuple[str, ...]
    next_attempt_at: datetime | None
    worker: str | None
    task_id: int
    task_state: TaskState
    paused: bool
    scheduled_for: datetime | None
    core_id: CoreId | None
    core_alive: bool

    def __str__(self) -> str:
        return f"step {self.step_id} ({self.name})"


_WAITS: Final = (StepState.PENDING, StepState.WAITING_FOR_RETRY)


def obstacle(step: DirectedStep, *, core_id: CoreId, now: datetime) -> Obstacle | None:
    """What keeps this core from sending the step to whomever; None: nothing does."""
    if step.state not in _WAITS or step.task_state not in OPEN_TASK_STATES:
        return Obstacle(Why.REFUSED, _over(step))
    if step.core_id != core_id:
        why = Why.ELSEWHERE if step.core_alive else Why.REFUSED
        return Obstacle(why, _of_another(step, now))
    if step.paused:
        return Obstacle(Why.REFUSED, f"{step}: its task {step.task_id} is paused")
    if step.parents:
        return Obstacle(Why.REFUSED, f"{step} waits for {listed(step.parents)}")
    if step.state is StepState.WAITING_FOR_RETRY or _is_early(step.next_attempt_at, now):
        return Obstacle(Why.REFUSED, f"{step} {_waits(step.next_attempt_at, now)}")
    return None


def _over(step: DirectedStep) -> str:
    if step.state is StepState.IN_PROGRESS:
        where = f" on worker {step.worker}" if step.worker else ""
        return f"{step} is in progress{where}"
    if step.state in _WAITS:
        return f"{step}: its task {step.task_id} is over ({step.task_state})"
    return f"{step} is {step.state}"


def _of_another(step: DirectedStep, now: datetime) -> str:
    if step.core_id is None:
        if step.scheduled_for is not None and step.scheduled_for > now:
            begins = span((step.scheduled_for - now).total_seconds())
            return f"{step}: its task {step.task_id} is scheduled to begin in {begins}"
        return f"{step}: no core has its task {step.task_id} yet; the next sweep claims it"
    if step.core_alive:
        return f"{step}: core '{step.core_id}' has its task {step.task_id}"
    return (
        f"{step}: core '{step.core_id}', which has its task {step.task_id}, does not run; the next "
        "sweep takes it over"
    )


def _waits(until: datetime | None, now: datetime) -> str:
    if until is None or until <= now:
        return "is due for its next attempt, and ready in a moment"
    return f"waits {span((until - now).total_seconds())} for its next attempt"


def _is_early(at: datetime | None, now: datetime) -> bool:
    return at is not None and at > now
