"""What people may do to tasks, steps and dead letters; the arrows of `states` decide."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasker_zmq.domain.states import (
    OPEN_TASK_STATES,
    STEP,
    TASK,
    StepEvent,
    StepState,
    TaskEvent,
    TaskState,
)


class StepAction(StrEnum):
    RETRY = "retry"
    RESOLVE = "resolve"
    CANCEL = "cancel"


class TaskAction(StrEnum):
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"


class LetterAction(StrEnum):
    REQUEUE = "requeue"
    RESOLVE = "resolve"
    DISCARD = "discard"


STEP_EVENTS: Final[Mapping[StepAction, StepEvent]] = {
    StepAction.RETRY: StepEvent.RETRY,
    StepAction.RESOLVE: StepEvent.RESOLVE_MANUALLY,
    StepAction.CANCEL: StepEvent.CANCEL,
}
STEP_TARGETS: Final[Mapping[StepAction, StepState]] = {
    StepAction.RETRY: StepState.PENDING,
    StepAction.RESOLVE: StepState.RESOLVED_MANUALLY,
    StepAction.CANCEL: StepState.CANCELLED,
}
# Discarding closes the letter, and leaves the step as it is.
STEP_ACTIONS: Final[Mapping[LetterAction, StepAction]] = {
    LetterAction.REQUEUE: StepAction.RETRY,
    LetterAction.RESOLVE: StepAction.RESOLVE,
}
DEAD_LETTER_STATES: Final = (StepState.ERROR, StepState.IN_DOUBT)
CANCELLABLE_TASK_STATES: Final = tuple(
    state for state in TaskState if TaskEvent.CANCEL in TASK.allowed(state)
)


@dataclass(frozen=True, kw_only=True)
class ControlledStep:
    """A step that a person named; `elsewhere` is another core that has its task in hand."""

    step_id: int
    name: str
    state: StepState
    unfinished_parents: int
    task_id: int
    task_state: TaskState
    elsewhere: str | None


def step_actions(state: StepState) -> tuple[StepAction, ...]:
    """What a person may do to a step in `state`; a running one belongs to its worker."""
    if state is StepState.IN_PROGRESS:
        return ()
    return tuple(action for action, event in STEP_EVENTS.items() if event in STEP.allowed(state))


def states_before(action: StepAction) -> tuple[StepState, ...]:
    """The states in which a step allows `action`."""
    return tuple(state for state in StepState if action in step_actions(state))


def refuse_step(action: StepAction, step: ControlledStep) -> str | None:
    """Why `action` is not possible, what was found and what is; None when it is possible."""
    found = f"step {step.step_id} ({step.name})"
    allowed = step_actions(step.state)
    if step.task_state not in (*OPEN_TASK_STATES, TaskState.ERROR):
        return f"{found} is {step.state}, and its task {step.task_id} is {step.task_state} for good"
    if step.state is StepState.IN_PROGRESS:
        return (
            f"{found} is in_progress: a worker has it; let it end, or cancel its task with "
            f"`tasker-zmq tasks cancel {step.task_id}`"
        )
    if action not in allowed:
        return f"{found} is {step.state}; there is possible: {_listed(allowed)}"
    if action is StepAction.RESOLVE and step.unfinished_parents:
        return (
            f"{found} still waits for {step.unfinished_parents} steps before it; "
            "resolve those first"
        )
    return _refuse_elsewhere(found, step.elsewhere)


def refuse_letter(action: LetterAction, step: ControlledStep) -> str | None:
    """The same for the step of a dead letter: only what failed or is in doubt is decided so."""
    if step.state not in DEAD_LETTER_STATES:
        return (
            f"its step {step.step_id} ({step.name}) is {step.state} by now; only "
            f"{_listed(DEAD_LETTER_STATES)} can be decided so: discard the letter"
        )
    return refuse_step(STEP_ACTIONS[action], step)


def refuse_task(
    action: TaskAction, task_id: int, state: TaskState, *, elsewhere: str | None
) -> str | None:
    """Why `action` is not possible on a task in `state`; None when it is."""
    found = f"task {task_id}"
    match action:
        case TaskAction.CANCEL:
            if state in CANCELLABLE_TASK_STATES:
                return None
            return f"{found} is {state}; can be cancelled: {_listed(CANCELLABLE_TASK_STATES)}"
        case TaskAction.PAUSE | TaskAction.RESUME:
            if state not in OPEN_TASK_STATES:
                return f"{found} is {state}; can be {action}d: {_listed(OPEN_TASK_STATES)}"
        case TaskAction.RETRY:
            retried = (*OPEN_TASK_STATES, TaskState.ERROR)
            if state not in retried:
                return f"{found} is {state}; can be retried: {_listed(retried)}"
    return None if action is TaskAction.PAUSE else _refuse_elsewhere(found, elsewhere)


def _refuse_elsewhere(found: str, core_id: str | None) -> str | None:
    if core_id is None:
        return None
    return f"{found}: daemon '{core_id}' has steps of that task running; ask that daemon"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"
