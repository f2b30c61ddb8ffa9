"""Where cores run: one to three names, the processes under them, and what holds among them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, cast

import psycopg
from sqlalchemy.exc import DBAPIError

from tasker_zmq.clock import SteadyClock
from tasker_zmq.pipeline.upkeep import CoreLostError
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import StillOpenError, World
from tests.simulation.core import CRASH_POINTS, Core
from tests.simulation.database import Row, Word
from tests.simulation.standing import Owners, Standing
from tests.simulation.timeline import ProcessClock, ViolationError

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

RESTART_SECONDS = (0.1, 3.0)
RESTART_LATE_SECONDS = (11.0, 20.0)  # when others have taken over
TRY_AGAIN_SECONDS = 0.25
OUTAGE_SECONDS = (0.3, 20.0)
PAUSE_SECONDS = (0.5, 25.0)
TWIN_SECONDS = (0.5, 8.0)
WORD_SECONDS = (0.0005, 0.02)
LATE_WORD_SECONDS = (0.5, 6.0)
JUMPS_SECONDS = (-3_600.0, -30.0, -3.0, 3.0, 30.0, 3_600.0)
WRONG_SECONDS = (-1.5, 0.0, 1.5)  # clocks of several machines, which time servers hold together


class Site:
    """Where the processes of one core run, one after the other; `zombies` slept too long."""

    def __init__(self, simulation: "Simulation", number: int) -> None:
        self.simulation = simulation
        self.name = f"core-{number}"
        self.commands = f"ipc://{self.name}"  # as World tells it
        self.process: Core | None = None
        self.zombies: list[Core] = []
        self.gone = False
        self.wall_clock = ProcessClock(simulation.timeline)
        access = simulation.database.take_access()
        clock = SteadyClock(self.wall_clock)
        self.world = World(
            access.engine,
            cast(ManualClock, clock),
            seed=simulation.options.seed + 1_000_000 * (number - 1),
            tuning=simulation.tuning,
            steps_max=simulation.options.steps_in_memory,
            core_id=self.name,
        )
        self.process = Core(self, access, clock)

    @property
    def serving(self) -> bool:
        return self.process is not None

    def start(self, twin_of: Core | None = None) -> None:
        """A new process; it waits until the lease of the former one has ended."""
        if twin_of is not None and (self.process is not twin_of or not _hidden(twin_of)):
            return
        simulation = self.simulation
        access = simulation.database.take_access()
        clock = SteadyClock(self.wall_clock)
        access.away = lambda: simulation.away
        access.committed = simulation.cores.tell
        self.world.clock, self.world.engine = cast(ManualClock, clock), access.engine
        try:
            self.world.start(predecessor_gone=self._name_is_free(twin_of))
        except (StillOpenError, psycopg.OperationalError, DBAPIError):
            simulation.database.give_back(access)
            simulation.timeline.after(TRY_AGAIN_SECONDS, partial(self.start, twin_of))
            return
        if twin_of is not None:
            simulation.trace.note("core has a twin", self.name)
            self.zombies.append(twin_of)
            for process in list(simulation.processes):
                process.lose_core(self)
        self.process = Core(self, access, clock)
        for process in simulation.processes:
            process.find_core(self)

    def _name_is_free(self, twin_of: Core | None) -> bool:
        """A daemon sees that its predecessor's connection is gone; from elsewhere it would wait."""
        if twin_of is not None:
            return not twin_of.connected
        if self.zombies:
            return False
        simulation = self.simulation
        return "clock_jump" in simulation.options.rates or simulation.dice.random() < 0.5

    def misfortunes(self, core: Core) -> None:
        """What happens to a process at the beginning of a tick."""
        network, dice = self.simulation.network, self.simulation.dice
        now, several = self.simulation.timeline.now, self.simulation.cores.several
        if not core.doom and network.strikes("core_crash"):
            core.doom = dice.choice(CRASH_POINTS)
        if network.strikes("outage"):
            self._cut_from_database(core, now + dice.uniform(*OUTAGE_SECONDS))
        if network.strikes("core_pause"):
            core.paused_until = now + dice.uniform(*PAUSE_SECONDS)
            self.simulation.trace.note("core pauses", core.told, f"until {core.paused_until:.2f}")
            self._perhaps_twin(core)
        if network.strikes("clock_jump"):
            self._set_clock()
        if several and network.strikes("core_gone") and self.simulation.cores.spares(self):
            core.doom, core.gone = dice.choice(CRASH_POINTS), True
        if several and core.draining_until is None and network.strikes("core_drain"):
            core.gone |= dice.random() < 0.4 and self.simulation.cores.spares(self)
            core.drain()

    def _cut_from_database(self, core: Core, until: float) -> None:
        """All are, or this process alone."""
        if self.simulation.cores.several and self.simulation.dice.random() < 0.6:
            core.away_until = until
            self.simulation.trace.note("outage", core.told, f"until {until:.2f}")
            self._perhaps_twin(core)
        else:
            self.simulation.away_until = until
            self.simulation.trace.note("outage until", f"{until:.2f}")

    def _perhaps_twin(self, core: Core) -> None:
        """Somebody takes it for dead, and starts another under its name."""
        if self.simulation.cores.several and self.simulation.network.strikes("core_twin"):
            seconds = self.simulation.dice.uniform(*TWIN_SECONDS)
            self.simulation.timeline.after(seconds, partial(self.start, core))

    def _set_clock(self) -> None:
        dice, options = self.simulation.dice, self.simulation.options
        if self.simulation.cores.several:
            self.wall_clock.wrong_by = dice.choice(WRONG_SECONDS)
        else:
            # What rows say of the future holds for the next process too: small jumps, if any.
            small = "core_crash" in options.rates
            self.wall_clock.wrong_by += dice.choice(JUMPS_SECONDS[2:4] if small else JUMPS_SECONDS)
        self.simulation.trace.note("clock wrong by", self.wall_clock.wrong_by)

    def ended(self, core: Core) -> None:
        """Somebody starts it again, unless it is not to come back, or another runs already."""
        if core in self.zombies:
            self.zombies.remove(core)
            return
        self.process = None
        for process in list(self.simulation.processes):
            process.lose_core(self)
        if core.gone:
            self.gone = True
            return
        dice, seconds = self.simulation.dice, 0.1
        if not self.simulation.network.calm:
            late = self.simulation.cores.several and dice.random() < 0.4
            seconds = dice.uniform(*(RESTART_LATE_SECONDS if late else RESTART_SECONDS))
        self.simulation.timeline.after(seconds, self.start)


def _hidden(core: Core) -> bool:
    """Whether somebody may take it for dead."""
    now = core.simulation.timeline.now
    return core.alive and (core.paused_until > now or core.away_until > now)


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was there before a tick; `rows` only if the process has lost its name."""

    leases: dict[str, datetime]
    rows: list[Row] | None


class Cores:
    """All of them."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.several = simulation.options.cores > 1
        self.sites: list[Site] = []
        self._homes: dict[str, Site] = {}
        self._standing = Standing(simulation.database)
        self._owners: Owners = {}  # after the last tick

    def begin(self) -> None:
        """The first processes."""
        for number in range(1, self._simulation.options.cores + 1):
            self.sites.append(Site(self._simulation, number))

    @property
    def processes(self) -> list[Core]:
        """All that live, even those that somebody else has succeeded."""
        living = [each.process for each in self.sites if each.process is not None]
        return living + [zombie for each in self.sites for zombie in each.zombies]

    def spares(self, site: Site) -> bool:
        """Whether work can go on though this one never comes back."""
        doomed = [each for each in self.sites if each.gone or (each.process and each.process.gone)]
        return any(each is not site and each not in doomed for each in self.sites)

    def some(self) -> Site | None:
        """One that serves; by chance, where there are several."""
        serving = [each for each in self.sites if each.serving]
        if not serving:
            return None
        return self._simulation.dice.choice(serving) if self.several else serving[0]

    def home_of(self, worker: str) -> Site:
        """The core that a worker looks for first: the same one for all processes of its name."""
        if worker not in self._homes:
            dice = self._simulation.dice
            self._homes[worker] = dice.choice(self.sites) if self.several else self.sites[0]
        return self._homes[worker]

    def at(self, url: str) -> Site:
        """The one whose commands come there."""
        return next(each for each in self.sites if each.commands == url)

    def named(self, endpoint: str) -> Site:
        """The one that has this endpoint."""
        return next(each for each in self.sites if each.name == endpoint.split("/")[2])

    def calm_down(self) -> None:
        for core in self.processes:
            core.paused_until = core.away_until = 0.0
            core.wake()

    def ended(self, core: Core) -> None:
        core.site.ended(core)

    def tell(self, words: Sequence[Word]) -> None:
        """What was said with a commit comes to all listeners: soon, late, or never."""
        simulation = self._simulation
        if not self.several:
            return
        for word in words:
            for core in self.processes:
                moment = simulation.timeline.now + simulation.dice.uniform(*WORD_SECONDS)
                if simulation.network.strikes("lost_words"):
                    if simulation.dice.random() < 0.5:
                        simulation.trace.note("word lost", core.told, *word)
                        continue
                    moment += simulation.dice.uniform(*LATE_WORD_SECONDS)
                simulation.timeline.at(moment, partial(core.hear, word))

    # What holds among them.

    def has(self, core: Core, session_id: str, batch_id: int) -> bool:
        """Whether a batch is this core's and this session's; always, where there is only one."""
        if not self.several:
            return True
        owner, holder = self._owners.get(("batch", batch_id), (None, None))
        if holder == session_id and owner != core.name:
            told = f"batch {batch_id} is {owner}'s, its session {session_id} is of {core.name}"
            raise ViolationError("I13 batches lie with their session", told)
        return holder == session_id

    def before_tick(self, core: Core) -> Before | None:
        """Look at the leases, and at all rows if this process must not change any."""
        if not self.several:
            return None
        standing = self._standing
        standing.look()
        core.stale = standing.epochs.get(core.name, core.state.epoch) != core.state.epoch
        rows = self._simulation.database.fingerprint() if core.stale else None
        return Before(leases=standing.leases, rows=rows)

    def before_sending(self, core: Core) -> None:
        if core.stale:
            raise ViolationError("I13 old epochs", f"{core.name} sends, and has lost its name")

    def after_tick(self, core: Core, before: Before | None) -> None:
        """Owners change when their lease is over, and not before."""
        if before is None:
            return
        if core.stale:
            detail = f"a tick of {core.name}, epoch {core.state.epoch}, went through"
            raise ViolationError("I13 old epochs", detail)
        self._standing.look()
        owners = self._standing.owners
        succeeded = set[str]()
        for key, (owner, session_id) in owners.items():
            former, former_session = self._owners.get(key, (None, None))
            if owner == former or former is None or session_id != former_session:
                continue
            told = f"{key[0]} {key[1]} of {former} became {owner}'s in a tick of {core.name}"
            if owner != core.name:
                raise ViolationError("I13 for itself", told)
            if before.leases[former] > core.clock.now():
                raise ViolationError("I13 one living owner", f"{told} before its lease was over")
            succeeded.add(former)
        self._shut_out(succeeded)
        self._owners = owners

    def _shut_out(self, names: Collection[str]) -> None:
        """No process of a core that was succeeded can go on."""
        if not names:
            return
        for core in self.processes:
            if core.name in names and core.state.epoch == self._standing.epochs[core.name]:
                told = f"{core.name}, epoch {core.state.epoch}, was succeeded and may go on"
                raise ViolationError("I13 fenced", told)

    def lost(self, core: Core, before: Before | None, error: CoreLostError) -> None:
        """A process that finds its name taken has changed nothing, and ends."""
        if before is None or before.rows is None:
            raise ViolationError("I13 one core", str(error)) from error
        self._simulation.trace.note("core lost its name", core.name)
        changed = set(self._simulation.database.fingerprint()) - set(before.rows)
        if changed:
            tables = ", ".join(sorted(row[0] for row in changed))
            detail = f"{core.name}, epoch {core.state.epoch}, changed {tables}"
            raise ViolationError("I13 old epochs", detail)
        core.end()
