"""Worker processes: the real worker's loop, on simulated sockets, with handlers that roll dice."""

import random
from collections import deque
from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tasker_zmq.clock import IdMaker
from tasker_zmq.protocol.commands import RegisterWorker, WorkerMetadata
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.worker.durable_outbox import open_outbox
from tasker_zmq.worker.executors.executor import EventInbox
from tasker_zmq.worker.outbox import MemoryOutbox, Outbox
from tasker_zmq.worker.runs import Outcome, Progress, RunEvent, RunKey, StepRun, failed, timed_out
from tasker_zmq.worker.runtime import StopPhase, Worker, WorkerParts
from tests.simulation.database import CrashError
from tests.simulation.network import Link
from tests.simulation.options import CRASH_BEFORE_SEND, WorkerPlan
from tests.simulation.sockets import SimulatedCommands, SimulatedPlane
from tests.simulation.timeline import ProcessClock, ViolationError
from tests.simulation.witness import Run, output_of

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

RECONNECT_SECONDS = (0.05, 0.5)
WAKE_SECONDS_MIN = 0.001
DRAIN_SECONDS = 3.0
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
        seconds, outcome = behaviour(simulation.network.strikes, simulation.dice, told)
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


def behaviour(strikes: Any, dice: random.Random, run: Run) -> tuple[float | None, Outcome]:
    """How long a handler takes (None: for ever), and what it says then."""
    seconds = dice.uniform(0.001, 0.3)
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

    def put(self, key: RunKey, what: Outcome | Progress) -> None:
        self._told.append(RunEvent(key, what))

    def wake(self) -> None:
        pass

    def take(self) -> list[RunEvent]:
        taken = list(self._told)
        self._told.clear()
        return taken


class Loop(Protocol):
    """What a process does whenever it is awake."""

    def turn(self) -> float:
        """Do what is due; how long there is nothing to do unless something arrives."""

    def ask_to_stop(self) -> None:
        """SIGTERM."""

    @property
    def over(self) -> bool:
        """The process ends."""

    @property
    def unrecorded(self) -> int:
        """How many steps and results it has in hand."""

    @property
    def wants_to_write(self) -> bool:
        """It has something to send, and waits for a connection."""


class _Loop(Worker):
    """The real loop; where it would sleep it says for how long."""

    seconds = 0.0

    def _watch(self) -> Any:
        return self

    def poll(self, milliseconds: int) -> None:
        self.seconds = milliseconds / 1_000

    def turn(self) -> float:
        self._turn()
        self._sleep()
        return self.seconds

    @property
    def over(self) -> bool:
        return self._stop is StopPhase.DONE

    @property
    def unrecorded(self) -> int:
        return len(self._parts.outbox) + self._batches.load

    @property
    def wants_to_write(self) -> bool:
        return self._control.wants_to_write


class Process:
    """One worker process from its start to its end; raises OutboxFileError where a real one does.

    With an outbox on disk it leaves the file behind, and the next of its name opens it.
    """

    legacy = False

    def __init__(self, simulation: "Simulation", plan: WorkerPlan, number: int) -> None:
        self.simulation = simulation
        self.plan = plan
        self.name = plan.name
        self.label = f"{plan.name}.{number}"
        self.link = Link(self.label)
        self.clock = ProcessClock(simulation.timeline)
        self.inbox = QuietInbox()
        self.commands: dict[bytes, SimulatedCommands] = {}
        self.planes: list[SimulatedPlane] = []
        self.alive = True
        self.connected = False
        self.doomed = False  # it crashes when it has a result to send
        self.paused_until = 0.0
        self._wake_number = 0
        self._wake_at = float("inf")
        self._files = ExitStack()
        self.loop = self._make_loop(random.Random(simulation.dice.getrandbits(32)))
        if simulation.core.alive:
            self.find_core()

    def _make_loop(self, dice: random.Random) -> Loop:
        parts = WorkerParts(
            commands_url="simulated",
            drain_seconds=DRAIN_SECONDS,
            registration=RegisterWorker(
                worker_name=self.plan.name,
                handlers=self.plan.handlers,
                metadata=WorkerMetadata(max_concurrent_steps=self.plan.concurrency),
                confirms_start=True,
            ),
            executor=Slots(self, self.plan.concurrency),
            inbox=self.inbox,
            outbox=self._make_outbox(dice),
            clock=self.clock,
            ids=IdMaker(self.clock, dice),
        )
        # The simulated sockets are made from what stands for the context.
        return _Loop(parts, self)  # type: ignore[arg-type]

    def _make_outbox(self, dice: random.Random) -> Outbox:
        path = self.simulation.outboxes.path(self.name)
        if path is None:
            return MemoryOutbox(dice.random)
        outbox = open_outbox(path, worker_name=self.name, chance=dice.random)
        return self._files.enter_context(outbox)

    @property
    def durable(self) -> bool:
        """Its outbox is on disk."""
        return self.name in self.simulation.options.durable

    @property
    def paused(self) -> bool:
        return self.paused_until > self.simulation.timeline.now

    def find_core(self) -> None:
        """Sockets reconnect by themselves, a moment after there is something to connect to."""
        life = self.simulation.core.life

        def connect() -> None:
            if self.alive and self.simulation.core.alive and self.simulation.core.life == life:
                self.connected = True
                for plane in list(self.planes):
                    plane.join()
                self.wake()

        self.simulation.timeline.after(self.simulation.dice.uniform(*RECONNECT_SECONDS), connect)

    def lose_planes(self) -> None:
        """Its connections end, which only the core notices."""
        self.simulation.trace.note("half open", self.label)
        for plane in self.planes:
            plane.break_off()

    def lose_core(self) -> None:
        self.connected = False
        for plane in self.planes:
            plane.cut()
        self.wake()

    def wake(self, seconds: float = 0.0) -> None:
        """Let the loop turn after so many seconds, unless it does so sooner anyway."""
        moment = self.simulation.timeline.now + seconds
        if not self.alive or moment >= self._wake_at:
            return
        self._wake_number += 1
        self._wake_at = moment
        number = self._wake_number
        self.simulation.timeline.at(moment, lambda: self._turn(number))

    def _turn(self, number: int) -> None:
        if not self.alive or number != self._wake_number:
            return
        self._wake_at = float("inf")
        if self.paused:
            self.wake(self.paused_until - self.simulation.timeline.now)
            return
        try:
            seconds = self.loop.turn()
        except CrashError:
            self.crash()
            return
        if self.loop.over:
            self.end("stopped")
        elif self.alive:
            self.wake(self._until_writable(max(seconds, WAKE_SECONDS_MIN)))

    def _until_writable(self, seconds: float) -> float:
        return WAKE_SECONDS_MIN if self.loop.wants_to_write and self.connected else seconds

    def crash(self) -> None:
        self.simulation.trace.note("crash", self.label)
        self.end("crashed")

    def end(self, how: str) -> None:
        """The process is gone; its connections break, and another may be started."""
        self.alive = False
        self.let_go(CrashError() if how == "crashed" else None)
        self.simulation.outboxes.look_at_file(self.name)
        for plane in list(self.planes):
            plane.close()
        self.commands.clear()
        self.simulation.process_ended(self, how)

    def let_go(self, error: BaseException | None) -> None:
        """Its files are closed, after an error without a last word."""
        self._files.__exit__(type(error) if error else None, error, None)

    def pause(self, seconds: float) -> None:
        self.simulation.trace.note("pause", self.label, f"{seconds:.2f} s")
        self.paused_until = self.simulation.timeline.now + seconds

    def stop(self) -> None:
        """SIGTERM."""
        self.simulation.trace.note("stop", self.label)
        self.loop.ask_to_stop()
        self.wake()
