"""What becomes of a task that somebody wants run now, by whose it is and how it stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from tasker_zmq.domain.explanation import span
from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES, TaskState
from tasker_zmq.domain.waiting import listed


class Execution(StrEnum):
    """What a wish to run a task came to."""

    CREATED = "created"  # there was none before
    STARTED = "started"  # it was nobody's
    STARTED_EARLY = "started_early"  # it was to begin later
    RUNNING = "running"  # this core has it already
    SCHEDULED = "scheduled"  # it is left to its time
    PAUSED = "paused"
    ENDED = "ended"
    ELSEWHERE = "elsewhere"  # another core that lives has it
    ABANDONED = "abandoned"  # a core that died had it


STARTS: Final = (Execution.STARTED, Execution.STARTED_EARLY)
OPEN_HERE: Final = (*STARTS, Execution.RUNNING, Execution.SCHEDULED, Execution.PAUSED)


@dataclass(frozen=True, kw_only=True)
class TaskAsked:
    """A task with what decides; `core_alive`: the core that has it runs."""

    task_id: TaskId
    namespace: str
    state: TaskState
    paused: bool
    scheduled_for: datetime | None
    core_id: CoreId | None
    core_alive: bool


def execution(task: TaskAsked, *, at_once: bool, core_id: CoreId, now: datetime) -> Execution:
    """What this core does about it; `at_once`: even if it was to begin later."""
    if task.state not in OPEN_TASK_STATES:
        return Execution.ENDED
    if task.core_id not in {None, core_id}:
        return Execution.ELSEWHERE if task.core_alive else Execution.ABANDONED
    if task.paused:
        return Execution.PAUSED
    if task.core_id == core_id:
        return Execution.RUNNING
    if task.scheduled_for is None or task.scheduled_for <= now:
        return Execution.STARTED
    return Execution.STARTED_EARLY if at_once else Execution.SCHEDULED


def told(task: TaskAsked, outcome: Execution, steps: Mapping[str, int], *, now: datetime) -> str:
    """The outcome as a sentence; `steps` counts those of the task by state."""
    name = f"task {task.task_id}"
    begins = span(((task.scheduled_for or now) - now).total_seconds())
    counted = [f"{count} {state.replace('_', ' ')}" for state, count in sorted(steps.items())]
    standing = f"steps: {listed(counted)}" if counted else "it has no steps"
    return {
        Execution.CREATED: f"{name} was made; {standing}",
        Execution.STARTED: f"{name} was nobody's and is this core's now; {standing}",
        Execution.STARTED_EARLY: f"{name} was to begin in {begins} and begins now; {standing}",
        Execution.RUNNING: f"{name} is run by this core already; {standing}",
        Execution.SCHEDULED: f"{name} begins in {begins}, and not before",
        Execution.PAUSED: f"{name} is paused: resume it first; {standing}",
        Execution.ENDED: f"{name} is over ({task.state}); {standing}",
        Execution.ELSEWHERE: f"core '{task.core_id}' runs {name}",
        Execution.ABANDONED: f"core '{task.core_id}', which had {name}, does not run; the next "
        f"sweep takes it over; {standing}",
    }[outcome]
