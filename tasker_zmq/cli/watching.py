"""Follows a task until it ends: a live picture on a terminal, a line per change elsewhere."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasker_zmq.cli.database import Database
from tasker_zmq.cli.drawing import heading, page, step_lines
from tasker_zmq.cli.output import as_text, say
from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.explanation import explain, span
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES, StepState, TaskState
from tasker_zmq.errors import NotFoundError, TaskerError
from tasker_zmq.store.reads import tasks
from tasker_zmq.store.reads.standing import error_text, standing

LOOK_SECONDS: Final = 0.2
BAR_WIDTH: Final = 40
ROWS_BESIDE_STEPS: Final = 6


class WaitedTooLongError(TaskerError):
    """The task goes on, but nobody waits for it any longer."""


class TaskDidNotCompleteError(TaskerError):
    """The task ended otherwise than complete."""


@dataclass(frozen=True)
class Look:
    """A task as it was at one moment."""

    shown: Mapping[str, Any]
    explanation: str
    at: datetime

    @property
    def ended(self) -> bool:
        return self.shown["state"] not in OPEN_TASK_STATES


Tell = Callable[[Look], None]


def look(database: Database, task_id: TaskId, *, now: datetime) -> Look:
    """One look; NotFoundError when there is no such task."""
    with database.reading() as connection:
        shown = tasks.show(connection, task_id)
        if shown is None:
            raise NotFoundError(f"no task has the id {task_id}")
        return Look(shown, explain(standing(connection, shown, now=now), now=now), now)


def follow(database: Database, task_id: TaskId, *, seconds_max: float | None) -> Look:
    """Look again and again, tell what changes on stderr; returns the last look, the end."""
    clock = SystemClock()
    until = None if seconds_max is None else clock.monotonic() + seconds_max
    pause = threading.Event()
    with _telling() as tell:
        while True:
            last = look(database, task_id, now=clock.now())
            tell(last)
            if last.ended:
                return last
            if until is not None and clock.monotonic() >= until:
                state = last.shown["state"].replace("_", " ")
                raise WaitedTooLongError(
                    f"task {task_id} is still {state} after {span(seconds_max or 0)}, and goes on; "
                    f"`tasker-zmq tasks watch {task_id}` waits further"
                )
            pause.wait(LOOK_SECONDS)


def refuse_failure(ended: Look) -> None:
    """Raise unless the task completed, so that scripts see it in the exit code."""
    if ended.shown["state"] != TaskState.COMPLETE:
        raise TaskDidNotCompleteError(f"task {ended.shown['task_id']}: {ended.explanation}")


@contextmanager
def _telling() -> Iterator[Tell]:
    console = page(on_stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda seen: live.update(_picture(seen, rows_max=console.height), refresh=True)


def _picture(seen: Look, *, rows_max: int) -> Group:
    shown = seen.shown
    lines = step_lines(shown, now=seen.at)
    room = max(1, rows_max - ROWS_BESIDE_STEPS)
    if len(lines) > room:
        lines = [*lines[:room], Text(f"... and {len(lines) - room} lines more", style="dim")]
    done = shown["steps_done"]
    progress = Table.grid(padding=(0, 1))
    progress.add_row(
        ProgressBar(total=shown["step_count"], completed=done, width=BAR_WIDTH),
        Text(f"{done} of {shown['step_count']} steps", style="dim"),
    )
    why = Text(as_text(seen.explanation, now=None))
    return Group(heading(shown, now=seen.at), *lines, progress, why)


class _Lines:
    """Says each change of a step once."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, int]] = {}

    def __call__(self, seen: Look) -> None:
        for step in seen.shown["steps"]:
            now = (step["state"], step["attempts"])
            before = self._said.get(step["name"], (StepState.PENDING, 0))
            self._said[step["name"]] = now
            if now != before:
                say(f"{step['name']}: {_told(step, seen.at)}")


def _told(step: Mapping[str, Any], now: datetime) -> str:
    words = [step["state"].replace("_", " ")]
    if step["attempts"]:
        words.append(f"(attempt {step['attempts']} of {step['tries'] if step['retryable'] else 1})")
    if step["worker"]:
        words.append(f"on {as_text(step['worker'], now=None)}")
    if step["finished_at"] is not None and step["started_at"] is not None:
        words.append(f"after {span((step['finished_at'] - step['started_at']).total_seconds())}")
    error = as_text(error_text(step["error"]), now=None)
    return " ".join(words) + (f": {error}" if error else "")
