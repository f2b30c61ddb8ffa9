"""Why a task stands where it stands, as one paragraph for people."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasker_zmq.domain.administration import NOTHING_DECIDED, Administration
from tasker_zmq.domain.ids import HandlerClass, NamedTaskId, TaskId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.domain.waiting import NAMED_MAX, LiveSession, Wanted, listed, why_not_sent

STEPS_NAMED_MAX: Final = NAMED_MAX
ERROR_CHARACTERS_MAX: Final = 160
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_DEAD: Final = (StepState.ERROR, StepState.CANCELLED)
_DONE: Final = (StepState.COMPLETE, StepState.RESOLVED_MANUALLY)


@dataclass(frozen=True, kw_only=True)
class StepStanding:
    """One step as it is now; `worker_gone` of a step in progress: its session has ended."""

    name: str
    state: StepState
    parents: tuple[str, ...]
    handler_class: str
    attempts: int
    tries: int
    worker: str | None
    worker_gone: bool
    started_at: datetime | None
    next_attempt_at: datetime | None
    error: str


@dataclass(frozen=True, kw_only=True)
class TaskStanding:
    """One task as it is now; `core_alive`: the daemon that owns it runs."""

    state: TaskState
    paused: bool
    core_id: str | None
    core_alive: bool
    requested_at: datetime
    completed_at: datetime | None
    scheduled_for: datetime | None
    steps: tuple[StepStanding, ...]
    sessions: tuple[LiveSession, ...]
    task_id: TaskId | None = None
    named_task: TaskName | None = None
    administration: Administration = NOTHING_DECIDED


Say = Callable[[StepStanding], str]


def explain(task: TaskStanding, *, now: datetime) -> str:
    """What happens, what is waited for, and what would help."""
    if task.state not in (TaskState.PENDING, TaskState.IN_PROGRESS):
        return _ended(task)
    ready = () if _is_early(task, now) else _ready(task)
    sentences = [*_held_up(task, now), *_moving(task, now), *ready, *_blocked(task)]
    return " ".join(sentences) or "Nothing of it waits: the daemon is about to end it."


def _ended(task: TaskStanding) -> str:
    took = ""
    if task.completed_at is not None:
        took = f" after {span((task.completed_at - task.requested_at).total_seconds())}"
    match task.state:
        case TaskState.COMPLETE:
            return f"It completed{took}."
        case TaskState.ERROR:
            failed = [step for step in task.steps if step.state in _DEAD]
            never = [step.name for step in task.steps if step.state is StepState.PENDING]
            left = f" {listed(never)} will not run." if never else ""
            return f"It ended in error{took}: {_each(failed, _failure, '; ')}.{left}"
        case _:
            return f"It was {task.state.replace('_', ' ')}{took}."


def _failure(step: StepStanding) -> str:
    if step.state is StepState.CANCELLED:
        return f"{step.name} was cancelled"
    return f"{step.name} failed at attempt {step.attempts} of {step.tries}{_because(step)}"


def _because(step: StepStanding) -> str:
    if not step.error:
        return ""
    text = " ".join(step.error.split())
    cut = text if len(text) <= ERROR_CHARACTERS_MAX else f"{text[: ERROR_CHARACTERS_MAX - 3]}..."
    return f" ({cut})"


def _held_up(task: TaskStanding, now: datetime) -> Iterable[str]:
    if task.paused:
        yield "It is paused: none of its steps is sent until it is resumed."
    if task.scheduled_for is not None and _is_early(task, now):
        yield f"It is scheduled to begin in {_until(task.scheduled_for, now)}."
    if not task.core_alive:
        owner = f"Its daemon '{task.core_id}' does not run" if task.core_id else "No daemon has it"
        yield f"{owner}: start one with `tasker-zmq daemon`."


def _is_early(task: TaskStanding, now: datetime) -> bool:
    return task.scheduled_for is not None and task.scheduled_for > now


def _moving(task: TaskStanding, now: datetime) -> Iterable[str]:
    running = _in_state(task, StepState.IN_PROGRESS)
    if running:
        yield f"{_each(running, lambda step: _running(step, now), '; ')}."
    waiting = sorted(
        _in_state(task, StepState.WAITING_FOR_RETRY), key=lambda step: step.next_attempt_at or now
    )
    if waiting:
        yield f"{_each(waiting, lambda step: _waiting(step, now), '; ')}."
    doubtful = _in_state(task, StepState.IN_DOUBT)
    if doubtful:
        names = listed([step.name for step in doubtful])
        yield f"{names} may have run and must not run twice: a person has to decide."


def _running(step: StepStanding, now: datetime) -> str:
    since = "" if step.started_at is None else f" for {_past(step.started_at, now)}"
    where = f"on worker {step.worker}" if step.worker else "on a worker"
    text = f"{step.name} is in progress {where}{since} (attempt {step.attempts} of {step.tries})"
    return f"{text}, but that worker is gone: it is sent again soon" if step.worker_gone else text


def _waiting(step: StepStanding, now: datetime) -> str:
    attempt = f"attempt {step.attempts + 1} of {step.tries}"
    if step.next_attempt_at is None or step.next_attempt_at <= now:
        return f"{step.name} is due for {attempt}{_because(step)}"
    due = _until(step.next_attempt_at, now)
    return f"{step.name} waits {due} for {attempt}{_because(step)}"


def _ready(task: TaskStanding) -> Iterable[str]:
    states = {step.name: step.state for step in task.steps}
    ready: dict[str, list[str]] = {}
    for step in _in_state(task, StepState.PENDING):
        if all(states.get(parent) in _DONE for parent in step.parents):
            ready.setdefault(step.handler_class, []).append(step.name)
    for handler, names in list(ready.items())[:STEPS_NAMED_MAX]:
        verb = "is" if len(names) == 1 else "are"
        yield f"{listed(names)} {verb} ready{_why_not_sent(task, handler)}."


def _why_not_sent(task: TaskStanding, handler: str) -> str:
    if task.paused or not task.core_alive:
        return ""
    pinned_to = None
    if task.named_task is not None and task.administration.pins:
        kind = Kind(HandlerClass(handler), NamedTaskId(0), task.task_id)
        pinned_to = task.administration.pinned_to(kind, task.named_task)
    wanted = Wanted(
        handler_class=handler,
        named_task=task.named_task,
        core_id=task.core_id,
        pinned_to=pinned_to,
    )
    return why_not_sent(wanted, task.sessions)


def _blocked(task: TaskStanding) -> Iterable[str]:
    states = {step.name: step.state for step in task.steps}
    hopeless: list[str] = []
    waiting: dict[tuple[str, ...], list[str]] = {}
    for step in _in_state(task, StepState.PENDING):
        unfinished = tuple(parent for parent in step.parents if states.get(parent) not in _DONE)
        if any(states.get(parent) in _DEAD or parent in hopeless for parent in unfinished):
            hopeless.append(step.name)
        elif unfinished:
            waiting.setdefault(unfinished, []).append(step.name)
    for parents, names in list(waiting.items())[:STEPS_NAMED_MAX]:
        verb = "waits" if len(names) == 1 else "wait"
        yield f"{listed(names)} {verb} for {listed(parents)}."
    more = sum(len(names) for names in list(waiting.values())[STEPS_NAMED_MAX:])
    if more:
        yield f"{more} more wait for other steps."
    if hopeless:
        yield f"{listed(hopeless)} cannot run, for a step before it failed."


def _in_state(task: TaskStanding, state: StepState) -> list[StepStanding]:
    return [step for step in task.steps if step.state is state]


def _each(steps: Sequence[StepStanding], say: Say, between: str) -> str:
    said = [say(step) for step in steps[:STEPS_NAMED_MAX]]
    more = len(steps) - STEPS_NAMED_MAX
    return between.join([*said, f"and {more} more"] if more > 0 else said)


def span(seconds: float) -> str:
    """A length of time as people say it: `80 ms`, `12 s`, `3 min`."""
    if abs(seconds) < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    length, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), _UNITS[-1])
    return f"{int(abs(seconds) // length)} {unit}"


def _until(moment: datetime, now: datetime) -> str:
    return span((moment - now).total_seconds())


def _past(moment: datetime, now: datetime) -> str:
    return span((now - moment).total_seconds())
