"""A core's process without threads and sockets: the real front desk, engine, ticks and SQL."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
import psycopg
from sqlalchemy.exc import DBAPIError

from tasker_zmq.clock import SteadyClock
from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.engine import AWAY_SECONDS_MAX, AWAY_SECONDS_MIN, EngineParts
from tasker_zmq.daemon.listener import MISSED, Listener
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.pipeline.inbox import Letter, Outbox, Publication, Received
from tasker_zmq.pipeline.state import LEGACY_SESSION
from tasker_zmq.pipeline.tick import Tick
from tasker_zmq.pipeline.upkeep import CoreLostError
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import ResultsRecorded
from tasker_zmq.store import workers as worker_store
from tests.simulation.database import Access, CrashError, Fate, Word
from tests.simulation.engine import LastingEngine, Patience, WaitError, WatchedTick
from tests.simulation.network import Link
from tests.simulation.publications import LIMITS
from tests.simulation.timeline import ViolationError

if TYPE_CHECKING:
    from tests.simulation.cores import Site
    from tests.simulation.sockets import SimulatedPlane
    from tests.simulation.workers import Process

MESSAGES_MAX = 500
TICK_SECONDS = 0.001
CRASH_POINTS = ("before_commit", "before_publishing", "while_publishing", "before_letters")
LATE_END_SECONDS = (0.5, 5.0)  # until TCP finds that a peer without heartbeats is gone
SENDINGS_MAX = 60  # of one result: seconds, then once in 15 s, and whenever the core comes back
DRAIN_SECONDS = 4.0
WAIT_GROWS_MAX = AWAY_SECONDS_MAX / AWAY_SECONDS_MIN


class Core:
    """One process of a core, from its start to its end; `site` is where it runs."""

    def __init__(self, site: "Site", access: Access, clock: SteadyClock) -> None:
        self.site = site
        self.simulation = site.simulation
        self.name = site.name
        self.state = site.world.state
        self.alive, self.busy = True, False
        self.clock = clock
        self.paused_until = self.away_until = 0.0
        self.draining_until: float | None = None
        self.results_in_transaction = 0
        self.in_transaction = False
        self.doom = ""
        self.stale = False  # whether another process has its name
        self.gone = False  # whether nobody starts another when this one has died
        self._wake_number = 0
        self._wake_at, self._ticked_at = float("inf"), float("-inf")
        self._waits = 0
        self._subscribers: list[tuple[Process, SimulatedPlane]] = []
        self._subscribed_at: dict[SimulatedPlane, float] = {}
        self._access = access
        access.away = self._is_away
        access.fate = self._draw_fate
        access.committed = self._committed
        self.simulation.trace.note("core starts", self.told, self.state.epoch)
        self._mailbox = Mailbox(messages_max=50_000, bytes_max=1 << 26)
        lanes = Lanes(mailbox=self._mailbox, readers=cast(Readers, None), snapshot=_no_snapshot)
        self._front = FrontDesk(
            lanes,
            limits=LIMITS,
            core_id=self.name,
            clock=clock,
            send=self._send_letter,
            legacy_workers=True,
        )
        self._engine = LastingEngine(
            EngineParts(
                tick=cast(Tick, WatchedTick(site.world.ticking, self)),
                state=self.state,
                tuning=self.simulation.tuning,
                database=access.engine,
                mailbox=self._mailbox,
                send=self._send,
                clock=clock,
                dice=self.simulation.dice,
                messages_max=MESSAGES_MAX,
                commands_max=MESSAGES_MAX,
                ticked=lambda: None,
            )
        )
        self._engine._stopping = cast(Any, Patience())
        put = partial(self._mailbox.put, later=True)
        self._listener = Listener(access.engine, core_id=CoreId(self.name), put=put)
        if self.simulation.cores.several:
            for missed in MISSED:
                put(missed)
        self.wake()

    @property
    def told(self) -> str:
        """What traces call it: nothing, where there is only one."""
        return self.name if self.simulation.cores.several else ""

    @property
    def connected(self) -> bool:
        """Whether it has a connection to the database, as far as it knows."""
        return self._engine._connection is not None

    def _is_away(self) -> bool:
        self.in_transaction = True
        self.results_in_transaction = 0
        return self.simulation.away or self.away_until > self.simulation.timeline.now

    def _committed(self, words: Sequence[Word]) -> None:
        self.in_transaction = False
        if self.busy:
            self.simulation.ledger_rows += self.results_in_transaction
            self.results_in_transaction = 0
        self.simulation.cores.tell(words)

    def _draw_fate(self) -> Fate:
        if not self.busy:
            return Fate.DONE
        strikes, dice = self.simulation.network.strikes, self.simulation.dice
        if self.doom == "before_commit":
            return Fate.CRASH_BEFORE
        fate = Fate.DONE
        if strikes("unknown_commit"):
            fate = dice.choice((Fate.UNKNOWN_DONE, Fate.UNKNOWN_UNDONE))
        elif strikes("conflict"):
            fate = Fate.CONFLICT
        if fate is not Fate.DONE:
            self.simulation.trace.note("commit", self.told, fate)
        if fate is not Fate.UNKNOWN_DONE and fate is not Fate.DONE:
            self.in_transaction = False
        return fate

    # Its end.

    def die(self) -> None:
        """kill -9."""
        self.simulation.trace.note("core dies", self.told, self.doom)
        self.end()

    def end(self) -> None:
        """The process is gone, and its connections with it."""
        self.alive = self.busy = False
        self.in_transaction = False
        self.let_go()
        self.simulation.cores.ended(self)

    def let_go(self) -> None:
        self._engine._drop_connection()
        self.simulation.database.give_back(self._access)

    def drain(self) -> None:
        """SIGTERM: it sends nothing new, and leaves when nothing is in hand or time is over."""
        if self.draining_until is None:
            self.simulation.trace.note("core drains", self.told)
            self.draining_until = self.simulation.timeline.now + DRAIN_SECONDS
            self.state.draining = True

    def _leave(self) -> None:
        """As the daemon does: the name is given back, if the database is there."""
        self._engine._drop_connection()
        with suppress(DBAPIError, psycopg.Error), self._access.engine.begin() as connection:
            worker_store.end_core(
                connection, self.state.core_id, self.state.epoch, now=self.clock.now()
            )
        self.simulation.trace.note("core leaves", self.told)
        self.end()

    # What arrives.

    def receive_command(self, link: Link, identity: bytes, frame: bytes) -> None:
        def arrive() -> None:
            if self.alive:
                self._front.command([identity, frame])
                self.wake()

        told = frame[17:90].decode("utf-8", "replace")
        self.simulation.trace.note("asks", identity.decode(), told)
        self.simulation.network.send(link, "command", arrive, told=told)

    def receive_result(self, link: Link, frame: bytes) -> None:
        def arrive() -> None:
            if self.alive:
                self._front.results([[frame]])
                self.wake()

        told = frame[:150].decode("utf-8", "replace")
        self.simulation.trace.note("result", link.name, told)
        self.simulation.sent[told] += 1
        if self.simulation.sent[told] > SENDINGS_MAX:
            raise ViolationError("I9 bounded resends", f"{link.name} sends again and again: {told}")
        self.simulation.network.send(link, "result", arrive, told=told)

    def receive_subscription(
        self, process: "Process", plane: "SimulatedPlane", *, subscribed: bool
    ) -> None:
        """Beginnings arrive late at times; ends may get lost, or come after the next beginning."""
        network = self.simulation.network
        moment = self.simulation.timeline.now + network.joining_seconds()
        if not subscribed and network.strikes("false_hints"):
            if not process.legacy:
                return
            moment += self.simulation.dice.uniform(*LATE_END_SECONDS)
        moment = max(moment, self._subscribed_at.get(plane, 0.0) + 1e-6)
        self._subscribed_at[plane] = moment

        def arrive() -> None:
            if not self.alive:
                return
            granted = self._front.subscription(plane.topic, subscribed=subscribed, connection=None)
            entry = (process, plane)
            if subscribed and granted:
                self.simulation.watch.heard.add(plane.topic)
            if subscribed and granted and plane.open:
                self._subscribers.append(entry)
            elif not subscribed and entry in self._subscribers:
                self._subscribers.remove(entry)
            self.wake()

        self.simulation.timeline.at(moment, arrive)

    def hear(self, word: Word) -> None:
        """What PostgreSQL says to the process's listener."""
        if self.alive:
            for received in self._listener._understood([word]):
                self._mailbox.put(received, later=True)
                self.wake()

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
        self.site.misfortunes(self)
        inbox = self._mailbox.take(MESSAGES_MAX, MESSAGES_MAX, 0.0)
        self.simulation.trace.note("tick", self.told, len(inbox))
        self._deal_with(inbox)

    def _deal_with(self, inbox: list[Received]) -> None:
        """Until it is settled; where the engine would wait, the world goes on meanwhile."""
        if not self.alive:
            return
        self.busy = True
        before = self.simulation.cores.before_tick(self)
        try:
            self._engine._deal_with(inbox)
        except CrashError:
            self.die()
            return
        except WaitError as wait:
            seconds = min(wait.seconds * 2**self._waits, wait.seconds * WAIT_GROWS_MAX)
            self._waits += 1
            self.simulation.timeline.after(seconds, lambda: self._deal_with(inbox))
            return
        except CoreLostError as error:
            self.simulation.cores.lost(self, before, error)
            return
        self.busy, self._waits = False, 0
        self._ticked_at = self.simulation.timeline.now
        self.simulation.cores.after_tick(self, before)
        self.simulation.look_after_tick(self)
        if self.draining_until is not None and self._drained:
            self._leave()
            return
        self._wake_in(max(TICK_SECONDS, 0.0 if len(self._mailbox) else self._engine._patience()))

    @property
    def _drained(self) -> bool:
        in_hand = any(each.holding for each in self.state.sessions.values())
        return not in_hand or self.simulation.timeline.now >= (self.draining_until or 0.0)

    # What it sends.

    def _send(self, outbox: Outbox) -> None:
        if self.in_transaction:
            raise ViolationError("I5 commit first", "the core sends inside of its transaction")
        self.simulation.cores.before_sending(self)
        if self.doom == "before_publishing":
            raise CrashError
        self._front.granted = frozenset(
            topics.steps_topic(session_id) for session_id in self.state.sessions
        )
        doomed = self.doom == "while_publishing"
        count = len(outbox.publications) // 2 if doomed else len(outbox.publications)
        for publication in outbox.publications:
            batch = self.simulation.watch.look_at(publication, self.state)
            self.simulation.outboxes.look_at(batch, self.state)
        for publication in outbox.publications[:count]:
            self._publish(publication)
        if doomed or self.doom == "before_letters":
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
        simulation.trace.note("publishes", self.told, told, "" if to else "to nobody")
        frame = topic + publication.body
        for process, plane in to[:1]:
            arrive = partial(plane.arrive, frame)
            simulation.network.send(process.link(self.site), "publication", arrive, told=told)

    def _send_letter(self, letter: Letter) -> None:
        command = codec.decode_command(letter.body, LIMITS)
        told = [command.command_type]
        if command.payload.type == "ResultsRecorded":
            for entry in msgspec.json.decode(command.payload.data, type=ResultsRecorded).recorded:
                self.simulation.witness.acknowledged(entry)
                told.append(f"{entry.batch_id}/{entry.step_id} {entry.verdict}")
        elif command.command_type == "WorkerRegistered":
            told.append(bytes(command.payload.data)[:110].decode())
            self.simulation.outboxes.registered(letter.route[0], command, self.state)
        self.simulation.trace.note("says", self.told, letter.route[0].decode(), *told)
        self.simulation.deliver(self.site, letter, told=command.command_type)

    def serves(self, process: "Process") -> bool:
        """Whether a legacy worker is sent what there is for it."""
        session = self.state.sessions.get(LEGACY_SESSION)
        heard = any(
            process is each and not plane.leads_nowhere for each, plane in self._subscribers
        )
        return heard and session is not None and session.subscribed


def _no_snapshot() -> Mapping[str, Any]:
    return {}
