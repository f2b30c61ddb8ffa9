"""One simulation: everybody in it, its weather, and what must hold at its end."""

import logging
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import msgspec

from tasker_zmq.domain.breaker import BreakerLimits
from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ResultsRecorded
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.testing.world import template
from tasker_zmq.worker import corelink
from tasker_zmq.worker.durable_outbox import OutboxFileError
from tests.simulation.account import settle_accounts
from tests.simulation.client import WORKFLOW, Client
from tests.simulation.core import Core
from tests.simulation.cores import Cores, Site
from tests.simulation.database import CrashError, Database
from tests.simulation.legacy import LegacyProcess
from tests.simulation.network import Network
from tests.simulation.options import LEGACY, Legacy, Options, StepPlan, WorkerPlan
from tests.simulation.outboxes import Outboxes
from tests.simulation.publications import PublicationWatch
from tests.simulation.sockets import command_socket, data_sockets
from tests.simulation.timeline import Timeline, Trace, ViolationError
from tests.simulation.witness import Witness
from tests.simulation.workers import Process

CALM_SECONDS_MAX = 240.0
LATE_SECONDS = 8.0  # what was on its way when the storm ended has arrived by then
WEATHER_SECONDS = (0.3, 1.5)
TICKS_BETWEEN_CHECKS = 20
CUT_SECONDS = (2.0, 20.0)
PAUSE_SECONDS = (0.5, 3.0, 8.0, 14.0, 25.0)
TWIN_CHANCE = 0.3
BREAKER = BreakerLimits(failures=3, cool_off_seconds=2.0, cool_off_seconds_max=20.0)
MEMORY = Path("/dev/shm")  # noqa: S108 - a file there costs no disk; the folder in it is our own


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went: no violation, or the first one."""

    options: Options
    digest: str
    trace: list[str]
    ticks: int
    seconds: float
    runs: int
    violation: ViolationError | None = None


class Simulation:
    """Built from options alone; what it does depends on nothing else."""

    def __init__(self, options: Options, database: Database, folder: Path) -> None:
        self.options = options
        self.database = database
        self.dice = random.Random(options.seed * 2 + 1)
        self.timeline = Timeline()
        self.trace = Trace(self.timeline)
        self.witness = Witness()
        self.outboxes = Outboxes(self, folder)
        self.network = Network(options, self.timeline, self.trace, self.dice)
        self.tuning = Tuning(
            batch_size=options.batch_size,
            credit_factor=options.credit_factor,
            sweep_tasks_max=3,
            breaker=BREAKER,
        )
        self.away_until = 0.0
        self.ticks = 0
        self.processes: list[Process] = []
        self.watch = PublicationWatch()
        self.sent: Counter[str] = Counter()  # results, by what they say
        self.ledger_rows = 0
        self.brought: dict[SessionId, int] = {}  # steps that a session began with
        self._identities = 0
        self._processes_made = 0
        self.cores = Cores(self)
        self.cores.begin()
        self._publish()
        self.client = Client(self)
        for plan in (*options.workers, *([LEGACY] if options.legacy is not Legacy.NONE else [])):
            self.timeline.at(self.dice.uniform(0.0, 2.0), partial(self._start_process, plan))
        self.timeline.at(1.0, self._change_weather)

    @property
    def away(self) -> bool:
        return self.away_until > self.timeline.now

    def new_identity(self, name: str) -> bytes:
        self._identities += 1
        return f"{name}/{self._identities}".encode()

    def _publish(self) -> None:
        made = template(WORKFLOW, {})
        made["steps"] = [_step(plan) for plan in self.options.steps]
        self.cores.sites[0].world.publish(made)

    # Worker processes.

    def _start_process(self, plan: WorkerPlan) -> None:
        self._processes_made += 1
        number = self._processes_made
        try:
            is_legacy = plan is LEGACY
            process = LegacyProcess(self, number) if is_legacy else Process(self, plan, number)
        except OutboxFileError as error:
            if not any(each.name == plan.name for each in self.processes):
                raise ViolationError("an outbox can be opened", str(error)) from error
            self.trace.note("refuses to start", plan.name)
            return
        self.trace.note("starts", process.label)
        self.processes.append(process)
        process.wake()

    def process_ended(self, process: Process, how: str) -> None:
        """Somebody starts it again, unless it was one of two."""
        self.trace.note("ended", process.label, how)
        self.processes.remove(process)
        if any(each.name == process.name for each in self.processes):
            return
        seconds = 0.1 if self.network.calm else self.dice.uniform(0.1, 5.0)
        self.timeline.after(seconds, lambda: self._restart(process))

    def _restart(self, process: Process) -> None:
        if not any(each.name == process.name for each in self.processes):
            self._start_process(process.plan)

    def deliver(self, site: Site, letter: Letter, *, told: str) -> None:
        """A letter of a core to whoever has this connection, if it is still there."""
        identity, body = letter.route[0], letter.body
        if identity == self.client.identity:
            command = codec.decode_command(body, WireLimits())
            self.network.send(
                self.client.link, "letter", lambda: self.client.arrive(command), told=told
            )
            return
        for process in self.processes:
            socket = process.commands.get(identity)
            if socket is not None:

                def arrive(socket: object = socket, process: Process = process) -> None:
                    if process.alive and process.commands.get(identity) is socket:
                        self._note_delivery(body)
                        process.commands[identity].arrive(body)
                        process.wake()

                self.network.send(process.link(site), "letter", arrive, told=told)
                return

    def _note_delivery(self, body: bytes) -> None:
        """A worker forgets what it is told of here, whatever the verdict."""
        command = codec.decode_command(body, WireLimits())
        if command.payload.type == "ResultsRecorded":
            told = msgspec.json.decode(command.payload.data, type=ResultsRecorded)
            for entry in told.recorded:
                self.witness.told(entry)

    # The weather.

    def _change_weather(self) -> None:
        if self.network.calm:
            return
        misfortunes = {
            "worker_crash": Process.crash,
            "worker_stop": Process.stop,
            "worker_pause": self._pause,
            "partition": self._cut_off,
            "half_open": Process.lose_planes,
        }
        for process in list(self.processes):
            strike = next((each for each in misfortunes if self.network.strikes(each)), None)
            if strike is not None:
                misfortunes[strike](process)
        if self.network.strikes("registrations"):
            self._storm_of_registrations()
        for site in self.cores.sites if self.cores.several else ():
            if self.network.strikes("core_cut"):
                self._cut_off_core(site)
        self.timeline.after(self.dice.uniform(*WEATHER_SECONDS), self._change_weather)

    def _pause(self, process: Process) -> None:
        """SIGSTOP; at times somebody starts another process under the same name meanwhile."""
        if process.paused:
            return
        process.pause(self.dice.choice(PAUSE_SECONDS) * self.dice.uniform(0.5, 1.2))
        if self.dice.random() < TWIN_CHANCE and not process.legacy:
            seconds = self.dice.uniform(0.5, 5.0)
            self.timeline.after(seconds, partial(self._start_process, process.plan))

    def _cut_off(self, process: Process) -> None:
        until = self.timeline.now + self.dice.uniform(0.5, 14.0)
        which = self.dice.choice(("in", "out", "both"))
        self.trace.note("partition", process.label, which, f"until {until:.2f}")
        sites = self.cores.sites
        if self.cores.several and self.dice.random() < 0.5:
            sites = [self.dice.choice(sites)]
        for site in sites:
            process.link(site).cut(which, until)

    def _cut_off_core(self, site: Site) -> None:
        """From all workers; the database is there."""
        until = self.timeline.now + self.dice.uniform(*CUT_SECONDS)
        self.trace.note("core cut off", site.name, f"until {until:.2f}")
        for process in self.processes:
            process.link(site).cut("both", until)

    def _storm_of_registrations(self) -> None:
        """All workers register again, several times."""
        self.trace.note("all register again")
        for process in list(self.processes):
            for seconds in (0.0, 0.05, self.dice.uniform(0.1, 1.0)):
                self.timeline.after(seconds, process.register_again)

    def _calm_down(self) -> None:
        self.trace.note("calm")
        self.network.calm = True
        self.away_until = 0.0
        for process in self.processes:
            process.paused_until = 0.0
            process.wake()
            for plane in process.planes:
                plane.deaf = False
        self.cores.calm_down()

    def _look_after_legacy(self) -> None:
        """A person does it: such a worker does not notice that it gets nothing, or is not heard."""
        for process in list(self.processes):
            living = self.cores.processes
            if process.legacy and living and not all(core.serves(process) for core in living):
                process.crash()

    # Promises.

    def look_after_tick(self, core: Core) -> None:
        """What must hold after every tick, of what this core remembers."""
        self.ticks += 1
        holders: dict[int, str] = {}
        for session in core.state.sessions.values():
            brought = self.brought.setdefault(session.session_id, len(session.holding))
            most = max(session.credit, session.burst_max, brought)
            if session.registration_id is not None and len(session.holding) > most:
                raise ViolationError(
                    "I9 credit",
                    f"{session.worker_name} holds {len(session.holding)} of {session.credit}",
                )
            for step_id, batch_id in session.holding.items():
                if self.cores.has(core, session.session_id, batch_id):
                    told = (
                        f"step {step_id} is held by {holders.get(step_id)} and {session.session_id}"
                    )
                    if step_id in holders:
                        raise ViolationError("I1 one holder", told)
                    holders[step_id] = session.session_id
                    _look_at_held(core, step_id, batch_id)
        if self.ticks % TICKS_BETWEEN_CHECKS == 0:
            self._look_at_rows()

    def _look_at_rows(self) -> None:
        for promise, subject, detail in self.database.broken("always"):
            raise ViolationError(promise, f"{subject}: {detail}")

    def _settled(self) -> bool:
        return (
            all(each.serving or each.gone for each in self.cores.sites)
            and not self.client.open
            and all(_idle(core) for core in self.cores.processes)
            and not any(process.loop.unrecorded for process in self.processes)
            and not self.database.broken("at_rest")
        )

    def run(self) -> None:
        """Storm, calm, and the final account; raises ViolationError."""
        options, timeline = self.options, self.timeline
        timeline.run_until(options.stormy_seconds)
        self._calm_down()
        timeline.run_until(timeline.now + LATE_SECONDS)
        self._look_after_legacy()
        give_up_at = timeline.now + CALM_SECONDS_MAX
        while not self._settled():
            if timeline.now >= give_up_at:
                self._tell_why_not()
            timeline.run_until(timeline.now + 1.0)
        self._look_at_rows()
        settle_accounts(self)

    def _tell_why_not(self) -> None:
        for promise, subject, detail in self.database.broken("at_rest"):
            raise ViolationError(promise, f"{subject}: {detail}")
        unrecorded = {each.label: each.loop.unrecorded for each in self.processes}
        told = "; ".join(_condition(core) for core in self.cores.processes)
        detail = f"tasks not taken {self.client.open}, unrecorded results {unrecorded}; {told}"
        raise ViolationError("comes to rest", detail)


def _look_at_held(core: Core, step_id: StepId, batch_id: BatchId) -> None:
    if batch_id not in core.state.deadlines:
        detail = f"batch {batch_id} of step {step_id} has no deadline"
        raise ViolationError("I1 deadline", detail)
    if step_id in core.state.viable:
        raise ViolationError("I1 held or viable", f"step {step_id} is both")


def _idle(core: Core) -> bool:
    """Whether it neither does nor waits for anything."""
    state = core.state
    watched = state.deadlines, state.unreconciled, state.viable
    return not core.busy and not any(len(each) for each in watched) and state.next_retry_at is None


def _condition(core: Core) -> str:
    state = core.state
    held = {key: dict(each.holding) for key, each in state.sessions.items() if each.holding}
    return (
        f"{core.name}: busy {core.busy}, viable {len(state.viable)}, deadlines "
        f"{len(state.deadlines)}, unreconciled {len(state.unreconciled)}, retry at "
        f"{state.next_retry_at}, held {held}"
    )


def _step(plan: StepPlan) -> dict[str, object]:
    return {
        "name": plan.name,
        "handler": {"callable": plan.handler},
        "dependencies": list(plan.after),
        "retry": {
            "retryable": plan.retryable,
            "max_attempts": plan.max_attempts,
            "backoff_base_ms": plan.backoff_ms,
            "max_backoff_ms": max(4_000, plan.backoff_ms),
        },
        "timeout_seconds": plan.timeout_seconds,
        "confirm_start": plan.confirm_start,
    }


@contextmanager
def simulated_sockets() -> Iterator[None]:
    """The worker's loop makes its sockets by these two names."""
    with (
        mock.patch.object(corelink, "CommandSocket", command_socket),
        mock.patch.object(corelink, "DataSockets", data_sockets),
    ):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def simulate(options: Options, database: Database) -> Outcome:
    """Run one simulation from its beginning to its end, or to the first broken promise."""
    where = MEMORY if MEMORY.is_dir() else None
    with (
        database.emptied(),
        simulated_sockets(),
        tempfile.TemporaryDirectory(prefix="tasker-simulation-", dir=where) as folder,
    ):
        simulation = Simulation(options, database, Path(folder))
        violation = None
        try:
            simulation.run()
        except ViolationError as error:
            violation = error
        finally:
            for core in simulation.cores.processes:
                core.let_go()
            for process in simulation.processes:
                process.let_go(CrashError())
        return Outcome(
            options=options,
            digest=simulation.trace.digest,
            trace=simulation.trace.lines,
            ticks=simulation.ticks,
            seconds=simulation.timeline.now,
            runs=len(simulation.witness.runs),
            violation=violation,
        )
