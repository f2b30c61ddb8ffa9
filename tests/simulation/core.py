"""The daemon without threads and sockets: the real front desk, engine, ticks and SQL."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
import psycopg
from sqlalchemy.exc import DBAPIError

from tasker_zmq.clock import SteadyClock
from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.engine import EngineParts, EngineThread
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers
from tasker_zmq.pipeline.inbox import (
    Letter,
    Outbox,
    Publication,
)
from tasker_zmq.pipeline.state import LEGACY_SESSION
from tasker_zmq.pipeline.tick import Tick
from tasker_zmq.pipeline.upkeep import CoreLostError
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import ResultsRecorded
from tasker_zmq.store import workers as worker_store
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import StillOpenError, World
from tests.simulation.database import CrashError, Fate
from tests.simulation.engine import Patience, WatchedTick
from tests.simulation.network import Link
from tests.simulation.publications import LIMITS, PublicationWatch
from tests.simulation.timeline import ProcessClock, ViolationError

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.sockets import SimulatedPlane
    from tests.simulation.workers import Process

MESSAGES_MAX = 500
TICK_SECONDS = 0.001
RESTART_SECONDS = (0.1, 3.0)
TRY_AGAIN_SECONDS = 0.25
CRASH_POINTS = ("before_commit", "before_publishing", "while_publishing", "before_letters")
OUTAGE_SECONDS = (0.3, 20.0)
PAUSE_SECONDS = (0.5, 25.0)
LATE_END_SECONDS = (0.5, 5.0)  # until TCP finds that a peer without heartbeats is gone
JUMPS_SECONDS = (-3_600.0, -30.0, -3.0, 3.0, 30.0, 3_600.0)
SENDINGS_MAX = 60  # of one result: seconds, then once in 15 s, and whenever the core comes back


class Core:
    """One core and its lives; `life` counts its processes."""

    def __init__(self, simulation: "Simulation") -> None:
        self.simulation = simulation
        self.wall_clock = ProcessClock(simulation.timeline)
        self.clock = SteadyClock(self.wall_clock)
        self.alive = self.busy = False
        self.life = 0
        self.paused_until = 0.0
        self.results_in_transaction = 0
        self.ledger_rows = 0
        self.in_transaction = False
        self.watch = PublicationWatch()
        self._sent: Counter[str] = Counter()
        self._doom = ""
        self._wake_number = 0
        self._wake_at = float("inf")
        self._ticked_at = float("-inf")
        self._subscribers: list[tuple[Process, SimulatedPlane]] = []
        self._subscribed_at: dict[SimulatedPlane, float] = {}
        database = simulation.database
        database.away = lambda: self._begins() and simulation.away
        database.fate = self._draw_fate
        database.committed = self._committed
        self.world = World(
            database.engine,
            cast(ManualClock, self.clock),
            seed=simulation.options.seed,
            tuning=simulation.tuning,
            steps_max=simulation.options.steps_in_memory,
        )
        self._live()

    def _begins(self) -> bool:
        self.in_transaction = True
        self.results_in_transaction = 0
        return True

    def _committed(self) -> None:
        self.in_transaction = False
        if self.busy:
            self.ledger_rows += self.results_in_transaction
            self.results_in_transaction = 0

    def _draw_fate(self) -> Fate:
        if not self.busy:
            return Fate.DONE
        strikes, dice = self.simulation.network.strikes, self.simulation.dice
        if self._doom == "before_commit":
            return Fate.CRASH_BEFORE
        fate = Fate.DONE
        if strikes("unknown_commit"):
            fate = dice.choice((Fate.UNKNOWN_DONE, Fate.UNKNOWN_UNDONE))
        elif strikes("conflict"):
            fate = Fate.CONFLICT
        if fate is not Fate.DONE:
            self.simulation.trace.note("commit", fate)
        if fate is not Fate.UNKNOWN_DONE and fate is not Fate.DONE:
            self.in_transaction = False
        return fate

    # Its lives.

    def start(self) -> None:
        """A new process; it waits until the lease of the former one has ended."""
        self.clock = SteadyClock(self.wall_clock)
        self.world.clock = cast(ManualClock, self.clock)
        try:
            self._free_name()
            self.world.start()
        except (StillOpenError, psycopg.OperationalError, DBAPIError):
            self.simulation.timeline.after(TRY_AGAIN_SECONDS, self.start)
            return
        self._live()
        for process in self.simulation.processes:
            process.find_core()

    def _free_name(self) -> None:
        """A daemon sees that its predecessor's connection is gone; from elsewhere it would wait."""
        if "clock_jump" in self.simulation.options.rates or self.simulation.dice.random() < 0.5:
            state = self.world.state
            with self.simulation.database.engine.begin() as connection:
                now = self.clock.now()
                worker_store.end_core(connection, state.core_id, state.epoch, now=now)

    def _live(self) -> None:
        self.alive, self.life = True, self.life + 1
        self.in_transaction = False
        self.simulation.trace.note("core starts", self.life)
        self._mailbox = Mailbox(messages_max=50_000, bytes_max=1 << 26)
        lanes = Lanes(mailbox=self._mailbox, readers=cast(Readers, None), snapshot=_no_snapshot)
        self._front = FrontDesk(
            lanes,
            limits=LIMITS,
            core_id=self.world.core_id,
            clock=self.clock,
            send=self._send_letter,
            legacy_workers=True,
        )
        self._engine = EngineThread(
            EngineParts(
                tick=cast(Tick, WatchedTick(self.world.ticking, self)),
                state=self.world.state,
                tuning=self.simulation.tuning,
                database=self.simulation.database.engine,
                mailbox=self._mailbox,
                send=self._send,
                clock=self.clock,
                dice=self.simulation.dice,
                messages_max=MESSAGES_MAX,
                commands_max=MESSAGES_MAX,
                ticked=lambda: None,
            )
        )
        self._engine._stopping = cast(Any, Patience(self))
        self._subscribers, self._subscribed_at = [], {}
        self._doom, self._wake_at, self._ticked_at = "", float("inf"), float("-inf")
        self.wake()

    def die(self) -> None:
        """kill -9."""
        self.simulation.trace.note("core dies", self._doom)
        self.alive = self.busy = False
        self.in_transaction = False
        self._engine._drop_connection()
        for process in list(self.simulation.processes):
            process.lose_core()
        calm = self.simulation.network.calm
        seconds = 0.1 if calm else self.simulation.dice.uniform(*RESTART_SECONDS)
        self.simulation.timeline.after(seconds, self.start)

    def let_pass(self, seconds: float) -> None:
        """The engine waits; meanwhile the world goes on, and may end this process."""
        timeline = self.simulation.timeline
        timeline.run_until(timeline.now + seconds, stop=lambda: not self.alive)
        if not self.alive:
            raise CrashError

    # What arrives.

    def receive_command(self, link: Link, identity: bytes, frame: bytes) -> None:
        life = self.life

        def arrive() -> None:
            if self.alive and self.life == life:
                self._front.command([identity, frame])
                self.wake()

        told = frame[17:90].decode("utf-8", "replace")
        self.simulation.trace.note("asks", identity.decode(), told)
        self.simulation.network.send(link, "command", arrive, told=told)

    def receive_result(self, link: Link, frame: bytes) -> None:
        life = self.life

        def arrive() -> None:
            if self.alive and self.life == life:
                self._front.result([frame])
                self.wake()

        told = frame[:150].decode("utf-8", "replace")
        self.simulation.trace.note("result", link.name, told)
        self._sent[told] += 1
        if self._sent[told] > SENDINGS_MAX:
            raise ViolationError("I9 bounded resends", f"{link.name} sends again and again: {told}")
        self.simulation.network.send(link, "result", arrive, told=told)

    def receive_subscription(
        self, process: "Process", plane: "SimulatedPlane", *, subscribed: bool
    ) -> None:
        """Beginnings arrive late at times; ends may get lost, or come after the next beginning."""
        network, life = self.simulation.network, self.life
        moment = self.simulation.timeline.now + network.joining_seconds()
        if not subscribed and network.strikes("false_hints"):
            if not process.legacy:
                return
            moment += self.simulation.dice.uniform(*LATE_END_SECONDS)
        moment = max(moment, self._subscribed_at.get(plane, 0.0) + 1e-6)
        self._subscribed_at[plane] = moment

        def arrive() -> None:
            if not self.alive or self.life != life:
                return
            granted = self._front.subscription(plane.topic, subscribed=subscribed)
            entry = (process, plane)
            if subscribed and granted:
                self.watch.heard.add(plane.topic)
            if subscribed and granted and plane.open:
                self._subscribers.append(entry)
            elif not subscribed and entry in self._subscribers:
                self._subscribers.remove(entry)
            self.wake()

        self.simulation.timeline.at(moment, arrive)

    # What it does.

    def wake(self) -> None:
        self._wake_in(TICK_SECONDS)

    def _wake_in(self, seconds: float) -> None:
        gap = self._ticked_at + self.simulation.options.tick_gap
        moment = max(self.simulation.timeline.now + seconds, gap)
        if not self.alive or self.busy or moment >= self._wake_at:
            return
        self._wake_number += 1
        self._wake_at, number = moment, self._wake_number
        self.simulation.timeline.at(moment, lambda: self._tick(number))

    def _tick(self, number: int) -> None:
        if not self.alive or self.busy or number != self._wake_number:
            return
        self._wake_at = float("inf")
        timeline = self.simulation.timeline
        if self.paused_until > timeline.now:
            self._wake_in(self.paused_until - timeline.now)
            return
        self._draw_doom()
        inbox = self._mailbox.take(MESSAGES_MAX, MESSAGES_MAX, 0.0)
        self.simulation.trace.note("tick", len(inbox))
        self.busy = True
        try:
            self._engine._deal_with(inbox)
        except CrashError:
            if self.alive:
                self.die()
            return
        except CoreLostError as error:
            raise ViolationError("I13 one core", str(error)) from error
        finally:
            self.busy = False
        self._ticked_at = timeline.now
        self.simulation.look_after_tick()
        self._wake_in(max(TICK_SECONDS, 0.0 if len(self._mailbox) else self._engine._patience()))

    def _draw_doom(self) -> None:
        network, dice, now = (
            self.simulation.network,
            self.simulation.dice,
            self.simulation.timeline.now,
        )
        if not self._doom and network.strikes("core_crash"):
            self._doom = dice.choice(CRASH_POINTS)
        if network.strikes("outage"):
            self.simulation.away_until = now + dice.uniform(*OUTAGE_SECONDS)
            self.simulation.trace.note("outage until", f"{self.simulation.away_until:.2f}")
        if network.strikes("core_pause"):
            self.paused_until = now + dice.uniform(*PAUSE_SECONDS)
            self.simulation.trace.note("core pauses until", f"{self.paused_until:.2f}")
        if network.strikes("clock_jump"):
            # What rows say of the future holds for the next process too: small jumps, if any.
            small = "core_crash" in self.simulation.options.rates
            self.wall_clock.wrong_by += dice.choice(JUMPS_SECONDS[2:4] if small else JUMPS_SECONDS)
            self.simulation.trace.note("clock wrong by", self.wall_clock.wrong_by)

    # What it sends.

    def _send(self, outbox: Outbox) -> None:
        if self.in_transaction:
            raise ViolationError("I5 commit first", "the core sends inside of its transaction")
        if self._doom == "before_publishing":
            raise CrashError
        self._front.granted = frozenset(
            topics.steps_topic(session_id) for session_id in self.world.state.sessions
        )
        doomed = self._doom == "while_publishing"
        count = len(outbox.publications) // 2 if doomed else len(outbox.publications)
        for publication in outbox.publications:
            batch = self.watch.look_at(publication, self.world.state)
            self.simulation.outboxes.look_at(batch, self.world.state)
        for publication in outbox.publications[:count]:
            self._publish(publication)
        if doomed or self._doom == "before_letters":
            raise CrashError
        for letter in outbox.letters:
            self._send_letter(letter)

    def _publish(self, publication: Publication) -> None:
        simulation, topic = self.simulation, publication.topic
        to = [(process, plane) for process, plane in self._subscribers if plane.topic == topic]
        to = [each for each in to if each[1].open] or to
        if len({process.label for process, plane in to if plane.open}) > 1:
            names = ", ".join(process.label for process, _ in to)
            raise ViolationError("I8 one session", f"{topic!r} is heard by {names}")
        told = f"batch {publication.batch_id} to {topic.decode()}"
        simulation.trace.note("publishes", told, "" if to else "to nobody")
        frame = topic + publication.body
        for process, plane in to[:1]:
            arrive = partial(plane.arrive, frame)
            simulation.network.send(process.link, "publication", arrive, told=told)

    def _send_letter(self, letter: Letter) -> None:
        command = codec.decode_command(letter.body, LIMITS)
        told = [command.command_type]
        if command.payload.type == "ResultsRecorded":
            for entry in msgspec.json.decode(command.payload.data, type=ResultsRecorded).recorded:
                self.simulation.witness.acknowledged(entry)
                told.append(f"{entry.batch_id}/{entry.step_id} {entry.verdict}")
        elif command.command_type == "WorkerRegistered":
            told.append(bytes(command.payload.data)[:110].decode())
            self.simulation.outboxes.registered(letter.route[0], command, self.world.state)
        self.simulation.trace.note("says", letter.route[0].decode(), *told)
        self.simulation.deliver(letter.route[0], letter.body, told=command.command_type)

    def serves(self, process: "Process") -> bool:
        """Whether a legacy worker is sent what there is for it."""
        session = self.world.state.sessions.get(LEGACY_SESSION)
        heard = any(
            process is each and not plane.leads_nowhere for each, plane in self._subscribers
        )
        return heard and session is not None and session.subscribed


def _no_snapshot() -> Mapping[str, Any]:
    return {}
