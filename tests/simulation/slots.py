"""Where a simulated process runs its steps: handlers that roll dice, so many at once."""

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from tasker_zmq.protocol.messages import StepError
from tasker_zmq.worker.executors.executor import EventInbox
from tasker_zmq.worker.runs import Outcome, Progress, RunEvent, RunKey, StepRun, failed, timed_out
from tests.simulation.options import CRASH_BEFORE_SEND
from tests.simulation.timeline import ViolationError
from tests.simulation.witness import Run, output_of

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.workers import Process

WRITTEN_CHANCE = 0.7  # of a crash behind the writing of an outbox, and not before it


class Slots:
    """An executor: runs at most so many steps at once, and none longer than it may."""

    def __init__(self, process: "Process", concurrency: int) -> None:
        self._process = process
        self._concurrency = concurrency
        self._waiting: deque[StepRun] = deque()
        self._running: dict[RunKey, tuple[StepRun, float]] = {}

    def start(self) -> None:
        self._waiting.clear()

    def stop(self) -> None:
        self._waiting.clear()

    def submit(self, run: StepRun) -> None:
        self._waiting.append(run)
        self._fill()

    def expire(self) -> None:
        now = self._process.simulation.timeline.now
        for key, (run, deadline) in list(self._running.items()):
            if deadline <= now:
                del self._running[key]
                self._process.inbox.put(key, timed_out(run))
        self._fill()

    def next_deadline(self) -> float | None:
        return min((deadline for _, deadline in self._running.values()), default=None)

    def give_back(self) -> tuple[StepRun, ...]:
        given = tuple(self._waiting)
        self._waiting.clear()
        return given

    def cancel(self, keys: Collection[RunKey], reason: str) -> None:
        for run in [each for each in self._waiting if each.key in keys]:
            self._waiting.remove(run)
            self._process.inbox.put(run.key, failed("Cancelled", reason, retryable=False))

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._concurrency:
            self._begin(self._waiting.popleft())

    def _begin(self, run: StepRun) -> None:
        process, simulation = self._process, self._process.simulation
        now = simulation.timeline.now
        if run.request.handler_class not in process.plan.handlers:
            detail = f"{process.label} was sent {run.request.handler_class}"
            raise ViolationError("its own handlers", detail)
        told = simulation.witness.began(process.label, run.batch_id, run.request, now=now)
        simulation.trace.note(
            "runs", process.label, run.batch_id, run.request.step_id, run.request.step_name
        )
        self._running[run.key] = (run, now + (run.timeout_seconds or 3_600.0))
        seconds, outcome = behaviour(simulation, told)
        if seconds is not None:
            simulation.timeline.after(seconds, lambda: self._finish(run, outcome))

    def _finish(self, run: StepRun, outcome: Outcome) -> None:
        process = self._process
        if not process.alive or run.key not in self._running:
            return
        if process.paused:
            process.simulation.timeline.at(process.paused_until, lambda: self._finish(run, outcome))
            return
        del self._running[run.key]
        if process.simulation.network.strikes(CRASH_BEFORE_SEND):
            process.doomed = process.durable and process.simulation.dice.random() < WRITTEN_CHANCE
            if not process.doomed:
                process.crash()
                return
        process.inbox.put(run.key, outcome)
        self._fill()
        process.wake()


def behaviour(simulation: "Simulation", run: Run) -> tuple[float | None, Outcome]:
    """How long a handler takes (None: for ever), and what it says then."""
    strikes, dice = simulation.network.strikes, simulation.dice
    seconds = dice.uniform(0.001, 0.03 if simulation.options.brisk else 0.3)
    if strikes("slow"):
        seconds = dice.uniform(0.3, 6.0)
    outcome = Outcome(
        completed=True, output=msgspec.Raw(output_of(run)), execution_time_ms=round(seconds, 3)
    )
    if strikes("failures"):
        retryable = dice.choice((None, True, True, False))
        after = dice.choice((None, None, 1.0, 2.0)) if retryable else None
        error = StepError(
            message=f"run {run.number} failed", retryable=retryable, retry_after_seconds=after
        )
        outcome = Outcome(completed=False, error=error, execution_time_ms=round(seconds, 3))
    return (None if strikes("hang") else seconds), outcome


class QuietInbox(EventInbox):
    """Events for the loop, which is woken by the timeline and not by a byte."""

    def __init__(self) -> None:
        self._told: deque[RunEvent] = deque()

    def put(self, key: RunKey, what: Outcome | Progress, *, more_follows: bool = False) -> None:
        self._told.append(RunEvent(key, what))

    def wake(self) -> None:
        pass

    def take(self) -> list[RunEvent]:
        taken = list(self._told)
        self._told.clear()
        return taken
