"""Worker processes: the real worker's loop, on simulated sockets, with handlers that roll dice."""

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

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
FAIL_OVER_SECONDS = (0.5, 4.0)
RETURN_SECONDS = 10.0
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
        self._home = simulation.cores.home_of(plan.name)
        self._last: Site | None = None  # where its last connection led
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
            commands_urls=("simulated",),
            drain_seconds=DRAIN_SECONDS,
            registration=RegisterWorker(
                worker_name=self.plan.name,
                handlers=self.plan.handlers,
                metadata=WorkerMetadata(max_concurrent_steps=self.plan.concurrency),
                connection_info={"instance": self.label},
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

    def link(self, site: Site) -> Link:
        """The wire between it and a core."""
        return self._links.setdefault(site, Link(self.label))

    def reaches(self, site: Site) -> bool:
        """Whether its connections to a core are there."""
        return site in self._connected

    def choose_site(self) -> Site:
        """Which core a new connection goes to: its own, or another one while that is silent."""
        sites = self.simulation.cores.sites
        place = sites.index(self._last or self._home)
        others = [each for each in sites[place + 1 :] + sites[:place] if self.reaches(each)]
        if self._last is None:
            self._last = self._home
        elif others:
            self._last = others[0]
        if self._last is not self._home:
            self.simulation.timeline.after(RETURN_SECONDS, self._return)
        return self._last

    def _return(self) -> None:
        """Its own core may be there again."""
        if not self.alive or all(each.site is self._home for each in self.commands.values()):
            return
        if not self.reaches(self._home) or self.paused:
            self.simulation.timeline.after(RETURN_SECONDS, self._return)
            return
        self._last = None
        self.register_again()

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
                self._fail_over()
                self.wake()

        self.simulation.timeline.after(self.simulation.dice.uniform(*RECONNECT_SECONDS), connect)

    def lose_core(self, site: Site) -> None:
        self._connected.discard(site)
        for plane in [each for each in self.planes if each.site is site]:
            plane.cut()
        self.wake()
        if self.simulation.cores.several:
            seconds = self.simulation.dice.uniform(*FAIL_OVER_SECONDS)
            self.simulation.timeline.after(seconds, self._fail_over)

    def _fail_over(self) -> None:
        """What leads to nobody leads to another one."""
        for socket in self.commands.values():
            if not self.reaches(socket.site) and self.alive:
                socket.site = self.choose_site()
                self.wake()

    def register_again(self) -> None:
        """Whatever made it do so."""
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
        return WAKE_SECONDS_MIN if self.loop.wants_to_write and self._can_write else seconds

    @property
    def _can_write(self) -> bool:
        return any(self.reaches(socket.site) for socket in self.commands.values())

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
