"""States, events and the arrows between them, as data.

The database moves a row only `WHERE state = <where the arrow starts>`; these tables say which
arrows exist. docs/STATES.md and the CHECK constraints of the schema are drawn from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from tasker_zmq.errors import TaskerError


class StepState(StrEnum):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    WAITING_FOR_RETRY = "waiting_for_retry"
    COMPLETE = "complete"
    ERROR = "error"
    IN_DOUBT = "in_doubt"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"


class StepEvent(StrEnum):
    START = "start"
    COMPLETE = "complete"
    FAIL = "fail"
    POSTPONE = "postpone"
    RETRY = "retry"
    LOSE = "lose"
    DOUBT = "doubt"
    CANCEL = "cancel"
    RESOLVE_MANUALLY = "resolve_manually"


class TaskState(StrEnum):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"


class TaskEvent(StrEnum):
    START = "start"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    CANCEL = "cancel"
    RESOLVE_MANUALLY = "resolve_manually"


class BatchState(StrEnum):
    CREATED = "created"
    PUBLISHED = "published"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PARTIALLY_FAILED = "partially_failed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ORPHANED = "orphaned"
    CANCELLED = "cancelled"


class BatchEvent(StrEnum):
    PUBLISH = "publish"
    START = "start"
    COMPLETE = "complete"
    COMPLETE_PARTIALLY = "complete_partially"
    FAIL = "fail"
    TIME_OUT = "time_out"
    ORPHAN = "orphan"
    CANCEL = "cancel"


class IllegalTransitionError(TaskerError):
    """There is no such arrow."""


State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


@dataclass(frozen=True)
class Machine(Generic[State, Event]):
    """One noun's life: where it begins and which event leads from where to where."""

    noun: str
    initial: State
    arrows: Mapping[tuple[State, Event], State]

    @property
    def states(self) -> tuple[State, ...]:
        return tuple(type(self.initial))

    @property
    def terminal(self) -> frozenset[State]:
        """The states that no arrow leaves."""
        return frozenset(self.states) - {state for state, _ in self.arrows}

    def allowed(self, state: State) -> tuple[Event, ...]:
        return tuple(event for (source, event) in self.arrows if source == state)

    def after(self, state: State, event: Event) -> State:
        """Where `event` leads from `state`; raises IllegalTransitionError when nowhere."""
        target = self.arrows.get((state, event))
        if target is None:
            allowed = ", ".join(f"'{each}'" for each in self.allowed(state)) or "nothing"
            raise IllegalTransitionError(
                f"{self.noun} cannot '{event}' from '{state}'; allowed here: {allowed}"
            )
        return target


def _step_arrows() -> dict[tuple[StepState, StepEvent], StepState]:
    s, e = StepState, StepEvent
    arrows = {
        (s.PENDING, e.START): s.IN_PROGRESS,
        (s.IN_PROGRESS, e.COMPLETE): s.COMPLETE,
        # A late success of a step that was lost, or ran out of time, and was not sent again.
        (s.PENDING, e.COMPLETE): s.COMPLETE,
        (s.WAITING_FOR_RETRY, e.COMPLETE): s.COMPLETE,
        (s.IN_DOUBT, e.COMPLETE): s.COMPLETE,
        (s.IN_PROGRESS, e.POSTPONE): s.WAITING_FOR_RETRY,
        (s.WAITING_FOR_RETRY, e.RETRY): s.PENDING,
        (s.IN_PROGRESS, e.FAIL): s.ERROR,
        (s.PENDING, e.FAIL): s.ERROR,  # it cannot be sent at all
        (s.IN_PROGRESS, e.LOSE): s.PENDING,
        (s.IN_PROGRESS, e.DOUBT): s.IN_DOUBT,
        (s.ERROR, e.RETRY): s.PENDING,
        (s.IN_DOUBT, e.RETRY): s.PENDING,
        (s.IN_PROGRESS, e.CANCEL): s.CANCELLED,  # it fails or is lost, and its task was cancelled
    }
    for state in (s.PENDING, s.WAITING_FOR_RETRY, s.ERROR, s.IN_DOUBT):
        arrows[state, e.CANCEL] = s.CANCELLED
        arrows[state, e.RESOLVE_MANUALLY] = s.RESOLVED_MANUALLY
    return arrows


def _task_arrows() -> dict[tuple[TaskState, TaskEvent], TaskState]:
    s, e = TaskState, TaskEvent
    arrows = {
        (s.PENDING, e.START): s.IN_PROGRESS,
        (s.IN_PROGRESS, e.COMPLETE): s.COMPLETE,
        (s.IN_PROGRESS, e.FAIL): s.ERROR,
        (s.PENDING, e.FAIL): s.ERROR,  # it cannot be sent at all
        (s.ERROR, e.RETRY): s.IN_PROGRESS,
    }
    for state in (s.PENDING, s.IN_PROGRESS, s.ERROR):
        arrows[state, e.CANCEL] = s.CANCELLED
        arrows[state, e.RESOLVE_MANUALLY] = s.RESOLVED_MANUALLY
    return arrows


def _batch_arrows() -> dict[tuple[BatchState, BatchEvent], BatchState]:
    s, e = BatchState, BatchEvent
    arrows = {
        (s.CREATED, e.PUBLISH): s.PUBLISHED,
        (s.CREATED, e.START): s.IN_PROGRESS,
        (s.PUBLISHED, e.START): s.IN_PROGRESS,
    }
    for state in (s.CREATED, s.PUBLISHED, s.IN_PROGRESS):
        arrows |= {
            (state, e.COMPLETE): s.COMPLETED,
            (state, e.COMPLETE_PARTIALLY): s.PARTIALLY_FAILED,
            (state, e.FAIL): s.FAILED,
            (state, e.TIME_OUT): s.TIMED_OUT,
            (state, e.ORPHAN): s.ORPHANED,
            (state, e.CANCEL): s.CANCELLED,
        }
    return arrows


STEP: Final = Machine(noun="step", initial=StepState.PENDING, arrows=_step_arrows())
TASK: Final = Machine(noun="task", initial=TaskState.PENDING, arrows=_task_arrows())
BATCH: Final = Machine(noun="batch", initial=BatchState.CREATED, arrows=_batch_arrows())

OPEN_TASK_STATES: Final = (TaskState.PENDING, TaskState.IN_PROGRESS)
OPEN_BATCH_STATES: Final = (BatchState.CREATED, BatchState.PUBLISHED, BatchState.IN_PROGRESS)
