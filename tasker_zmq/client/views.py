"""What a client is told of tasks."""

from datetime import datetime
from typing import Any, Final, Self

import msgspec

from tasker_zmq.domain.ids import StepId, TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES, TaskState
from tasker_zmq.errors import TaskerError

NAMED_MAX: Final = 3


class TaskFailedError(TaskerError):
    """A task ended without being complete."""


class WaitTimeoutError(TaskerError, TimeoutError):
    """A task had not ended when its caller's patience had."""


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a list; `workflow` is `namespace/name@version`, times are UTC."""

    task_id: TaskId
    workflow: str
    state: TaskState
    identity: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    paused: bool = False
    step_count: int = 0
    steps_done: int = 0
    failed_steps: int = 0
    requested_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state not in OPEN_TASK_STATES


class TaskStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a task; `results` is what its handler returned, `error` what it failed with."""

    step_id: StepId
    name: str
    state: str
    attempts: int = 0
    tries: int = 1
    parents: tuple[str, ...] = ()
    worker: str | None = None
    results: Any = None
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None


class Task(TaskSummary, frozen=True, kw_only=True):
    """One task with its context and its steps, parents first."""

    context: Any = None
    error: Any = None
    steps: tuple[TaskStep, ...] = ()

    @property
    def results(self) -> dict[str, Any]:
        """What each step that has ended well returned, by its name."""
        return {each.name: each.results for each in self.steps if each.results is not None}

    def check(self) -> Self:
        """The task itself if it is complete; else TaskFailedError says which steps failed."""
        if self.state is TaskState.COMPLETE:
            return self
        raise TaskFailedError(f"task {self.task_id} ({self.workflow}) is {self.state}{self._why()}")

    def _why(self) -> str:
        failed = [each for each in self.steps if each.error is not None]
        told = [
            f"{each.name}: {(each.error or {}).get('message', '')}" for each in failed[:NAMED_MAX]
        ]
        more = f" and {len(failed) - NAMED_MAX} more" if len(failed) > NAMED_MAX else ""
        return f"; {'; '.join(told)}{more}" if told else ""
