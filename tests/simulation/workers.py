"""Worker processes: the real worker's loop, on simulated sockets, with handlers that roll dice."""

import random
from collections.abc import Container
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from tasker_zmq.clock import IdMaker
from tasker_zmq.protocol.commands import RegisterWorker, WorkerMetadata
from tasker_zmq.worker.durable_outbox import open_outbox
from tasker_zmq.worker.outbox import MemoryOutbox, Outbox
from tasker_zmq.worker.runtime import StopPhase, Worker, WorkerParts
from tests.simulation.cores import Site
from tests.simulation.database import CrashError
from tests.simulation.network import Link
from tests.simulation.options import WorkerPlan
from tests.simulation.slots import QuietInbox, Slots
from tests.simulation.sockets import SimulatedCommands, SimulatedPlane
from tests.simulation.timeline import ProcessClock

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

RECONNECT_SECONDS = (0.05, 0.5)
WAKE_SECONDS_MIN = 0.001
DRAIN_SECONDS = 3.0


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
    def can_write(self) -> bool:
        """It has something to send, and a connection for it."""


class _Anything(Container[object]):
    """Whatever is asked for may have come."""

    def __contains__(self, _: object) -> bool:
        return True


ANYTHING = _Anything()


class _Loop(Worker):
    """The real loop; where it would sleep it says for how long."""

    seconds = 0.0

    def _wait(self, *, milliseconds: int) -> Container[object]:
        self.seconds = milliseconds / 1_000
        return ANYTHING

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
    def can_write(self) -> bool:
        controls = [link.control for link in self._links]
        return any(each.wants_to_write and each.sockets.writable for each in controls)


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
        self.clock = ProcessClock(simulation.timeline)
        self.inbox = QuietInbox()
        self.commands: dict[bytes, SimulatedCommands] = {}
        self.planes: list[SimulatedPlane] = []
        self.alive = True
        self._connected: set[Site] = set()
        self._links: dict[Site, Link] = {}
        self.doomed = False  # it crashes when it has a result to send
        self.paused_until = 0.0
        self._wake_number = 0
        self._wake_at = float("inf")
        self._files = ExitStack()
        self.loop = self._make_loop(random.Random(simulation.dice.getrandbits(32)))
        for site in simulation.cores.sites:
            self.find_core(site)

    def _make_loop(self, dice: random.Random) -> Loop:
        parts = WorkerParts(
            commands_urls=self._urls(),
            drain_seconds=DRAIN_SECONDS,
            registration=RegisterWorker(
                worker_name=self.plan.name,
                handlers=self.plan.handlers,
                instance=self.label,
                metadata=self._metadata(),
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

    def _metadata(self) -> WorkerMetadata:
        concurrency = self.plan.concurrency
        if not self.simulation.options.brisk:
            return WorkerMetadata(max_concurrent_steps=concurrency)
        return WorkerMetadata(max_concurrent_steps=concurrency, max_burst_steps=4 * concurrency)

    def _urls(self) -> tuple[str, ...]:
        """Its own core's, and perhaps the others': else it is told of them."""
        sites, home = self.simulation.cores.sites, self.simulation.cores.home_of(self.name)
        knows_all = self.plan is self.simulation.options.workers[0] or self.durable
        if len(sites) > 1 and not knows_all and self.simulation.dice.random() < 0.5:
            return (home.commands,)
        return (home.commands, *(each.commands for each in sites if each is not home))

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

    def link(self, site: Site) -> Link:
        """The wire between it and a core."""
        return self._links.setdefault(site, Link(self.label))

    def reaches(self, site: Site) -> bool:
        """Whether its connections to a core are there."""
        return site in self._connected

    def find_core(self, site: Site) -> None:
        """Sockets reconnect by themselves, a moment after there is something to connect to."""
        core = site.process
        if core is None:
            return

        def connect() -> None:
            if self.alive and core.alive and site.process is core:
                self._connected.add(site)
                for plane in [each for each in self.planes if each.site is site]:
                    plane.join()
                self.wake()

        self.simulation.timeline.after(self.simulation.dice.uniform(*RECONNECT_SECONDS), connect)

    def lose_core(self, site: Site) -> None:
        self._connected.discard(site)
        for plane in [each for each in self.planes if each.site is site]:
            plane.cut()
        self.wake()

    def register_again(self) -> None:
        """At all its cores, whatever made it do so."""
        if self.alive and not self.paused and isinstance(self.loop, Worker):
            for link in self.loop._links:
                link.control.seek(self.clock.monotonic(), reason="a storm of registrations")
            self.wake()

    def lose_planes(self) -> None:
        """Its connections end, which only the core notices."""
        self.simulation.trace.note("half open", self.label)
        for plane in self.planes:
            plane.break_off()

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
        return WAKE_SECONDS_MIN if self.loop.can_write else seconds

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
