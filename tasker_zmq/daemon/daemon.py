"""A daemon: database, sockets and threads of one core, from start to drained stop."""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import zmq
from sqlalchemy import Engine

from tasker_zmq.clock import Clock, IdMaker, SteadyClock, SystemClock, system_dice
from tasker_zmq.commands.answering import Answering
from tasker_zmq.commands.calling import Functions
from tasker_zmq.commands.context import Desk
from tasker_zmq.commands.ending import Management
from tasker_zmq.commands.plugins import routes
from tasker_zmq.daemon.calls import Calls
from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.engine import EngineParts, EngineThread
from tasker_zmq.daemon.health import HealthThread
from tasker_zmq.daemon.listener import Listener
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers, View
from tasker_zmq.daemon.scribe import Audit
from tasker_zmq.daemon.starting import LEASE_WAIT_STEP_SECONDS, await_database
from tasker_zmq.daemon.tuning import limits_of, sockets_of, tuning_of
from tasker_zmq.daemon.wakeup import Wakeup
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.errors import TaskerError, UnreachableError
from tasker_zmq.pipeline import discover
from tasker_zmq.pipeline.inbox import Letter, Outbox
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.tick import Tick
from tasker_zmq.pipeline.viable import ViableSteps
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.commands import DataPlane
from tasker_zmq.settings import Settings, may_be_managed, refuse_public_binds
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store import workers as worker_store
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.transport.endpoints import advertised
from tasker_zmq.transport.loop import IoLoop
from tasker_zmq.transport.sockets import DaemonSockets

logger = logging.getLogger(__name__)

STALL_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.05  # while it drains
THREADS_SECONDS = 0.5  # how often it is looked whether all threads still run


class Daemon:
    """One core. `start`, then `run` until `stop` is called from a signal handler."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        clock: Clock | None = None,
        functions: Functions | None = None,
    ) -> None:
        refuse_public_binds(settings)
        routes()  # whatever cannot be loaded is told now, not with the first command
        self._settings = settings
        self._url = database_url
        self._clock = clock or SteadyClock(SystemClock())
        self._dice = system_dice()
        self._tuning = tuning_of(settings)
        self._calls = Calls(
            functions or {},
            seconds=settings.call.timeout_seconds,
            core_id=settings.core_id,
            clock=self._clock,
            send=self._send_letter,
        )
        self._stack = ExitStack()
        self._wakeup = self._stack.enter_context(Wakeup())
        self._stop_asked = False
        self._snapshot: dict[str, Any] = {"status": "starting", "core_id": settings.core_id}
        self._last_tick_at: datetime | None = None

    def start(self) -> None:
        """Bind, take the core's name, take up what was left; everything or nothing."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> None:
        settings = self._settings
        limits = connections.ConnectionLimits(
            connect_timeout_seconds=settings.database.connect_timeout_seconds,
            statement_timeout_seconds=settings.database.statement_timeout_seconds,
            lock_timeout_seconds=settings.database.lock_timeout_seconds,
        )
        writing = connections.create(self._url, purpose=settings.core_id, limits=limits)
        self._stack.callback(writing.dispose)
        reading = connections.create(
            self._url,
            purpose="reader",
            limits=limits,
            pool_size=settings.readers.threads + 1,  # and one for those who wait for tasks
            reading=True,
        )
        self._stack.callback(reading.dispose)
        self._database = writing
        seconds = settings.database.connect_timeout_seconds
        await_database(writing, self._clock, seconds=seconds, stop_asked=lambda: self._stop_asked)
        with connections.translated(), writing.connect() as connection:
            schema.refuse_unknown(connection)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stack.callback(self._context.term)
        sockets = self._open_sockets()
        self._state = self._take_name(sockets)
        auditing = connections.create(self._url, purpose="scribe", limits=limits)
        self._stack.callback(auditing.dispose)
        self._audit = Audit(
            settings.audit, auditing, core_id=self._state.core_id, clock=self._clock
        )
        self._wire(sockets, reading)
        self._listen(limits)
        told = {"core_id": settings.core_id, "epoch": self._state.epoch, **self.endpoints}
        log(logger, logging.INFO, Event.DAEMON_READY, **told)

    def _open_sockets(self) -> DaemonSockets:
        settings = self._settings
        sockets = sockets_of(settings, self._context)
        self._stack.callback(sockets.close)
        self.endpoints = {
            "steps": sockets.steps_endpoint,
            "results": sockets.results_endpoint,
            "commands": sockets.commands_endpoint,
        }
        self._health = HealthThread(self._context, settings.endpoints.health, self._health_answer)
        self._stack.callback(self._health.stop)
        self.endpoints["health"] = self._health.endpoint
        self._health.start()
        host = settings.endpoints.advertise
        self._told = {name: advertised(each, host) for name, each in self.endpoints.items()}
        return sockets

    def _take_name(self, sockets: DaemonSockets) -> CoreState:
        """Become this core; one that still lives keeps the name until its lease ends."""
        settings, core_id = self._settings, CoreId(self._settings.core_id)
        lease = settings.heartbeat.core_lease_seconds
        give_up_at = self._clock.monotonic() + lease + 2
        waiting = False
        with connections.translated():
            connection = self._connection = self._database.connect()
        self._stack.callback(connection.close)
        while True:
            now = self._clock.now()
            with connections.translated(), connection.begin():
                epoch = worker_store.start_core(
                    connection,
                    core_id,
                    self._told,
                    now=now,
                    lease_seconds=lease,
                    predecessor_gone=worker_store.name_is_free(connection, core_id),
                )
                if epoch is not None:
                    worker_store.hold_name(connection, core_id)
                    state = CoreState(
                        core_id=core_id,
                        epoch=epoch,
                        viable=ViableSteps(steps_max=settings.dispatch.viable_steps_max),
                    )
                    discover.wake(connection, state, self._tuning, now=now)
                    return state
            if self._clock.monotonic() > give_up_at:
                raise UnreachableError(
                    f"another daemon runs as core '{core_id}' on this database; stop it, or start "
                    "this one with --core-id and another name"
                )
            if not waiting:
                waiting = True
                log(logger, logging.INFO, Event.DAEMON_STARTING, waiting_for="the core's lease")
            time.sleep(LEASE_WAIT_STEP_SECONDS)
            if self._stop_asked:
                raise TaskerError("stopped while waiting for the core's name")

    def _make_tick(self) -> Tick:
        settings, state = self._settings, self._state
        make_uuid = IdMaker(self._clock, self._dice).uuid7
        desk = Desk(
            state=state,
            tuning=self._tuning,
            environment=settings.environment,
            endpoints=DataPlane(steps=self._told["steps"], results=self._told["results"]),
            make_uuid=make_uuid,
            management=may_be_managed(settings),
        )
        return Tick(
            state,
            self._tuning,
            answer=Answering(desk),
            make_uuid=make_uuid,
            chance=self._dice.random,
        )

    def _wire(self, sockets: DaemonSockets, reading: Engine) -> None:
        settings, state, tick = self._settings, self._state, self._make_tick()
        self._mailbox = Mailbox(
            messages_max=settings.limits.inbox_messages_max,
            bytes_max=settings.limits.inbox_bytes_max,
        )
        self._readers = Readers(
            reading,
            View(clock=self._clock, snapshot=self._health_answer),
            threads=settings.readers.threads,
            core_id=settings.core_id,
            send=self._send_letter,
        )
        self._front = FrontDesk(
            Lanes(
                mailbox=self._mailbox,
                readers=self._readers,
                snapshot=self._health_answer,
                trail=self._audit.trail,
                management=self._management(),
                call=self._calls.ask,
            ),
            limits=limits_of(settings),
            core_id=settings.core_id,
            clock=self._clock,
            send=self._send_letter,
            legacy_workers=settings.dispatch.legacy_workers,
        )
        self._io = IoLoop(sockets, self._front)
        self._engine = EngineThread(
            EngineParts(
                tick=tick,
                state=state,
                tuning=self._tuning,
                database=self._database,
                connection=self._connection,
                mailbox=self._mailbox,
                send=self._send,
                clock=self._clock,
                dice=self._dice,
                messages_max=settings.tick.messages_max,
                commands_max=settings.tick.commands_max,
                ticked=self._note_tick,
            )
        )
        self._begin()

    def _management(self) -> Management:
        return Management(
            allowed=may_be_managed(self._settings),
            core_id=self._state.core_id,
            health=self._health_answer,
            drain=self._state.drain,
            stop=self.stop,
        )

    def _begin(self) -> None:
        """Start the threads; they are stopped the other way round."""
        self._snapshot = self._figures("starting")  # whoever asks before the first tick sees it all
        self._stack.callback(self._audit.stop)
        self._audit.start()
        self._stack.callback(self._io.stop)
        self._io.start()
        self._stack.callback(self._readers.stop)
        self._readers.start()
        self._stack.callback(self._stop_engine)
        self._engine.start()

    def _stop_engine(self) -> None:
        self._engine.stop()
        self._engine.join(timeout=self._settings.database.statement_timeout_seconds + 5)

    def _listen(self, limits: connections.ConnectionLimits) -> None:
        """Hear at once of what others have put into the database."""
        database = connections.create(self._url, purpose="listener", limits=limits)
        self._stack.callback(database.dispose)
        listener = Listener(
            database,
            core_id=self._state.core_id,
            put=partial(self._mailbox.put, later=True),
        )
        self._stack.callback(listener.stop)
        listener.start()

    def _send(self, outbox: Outbox) -> None:
        # A session's topic is granted before the letter that names it goes out.
        self._front.granted = frozenset(
            topics.steps_topic(session_id) for session_id in self._state.sessions
        )
        self._audit.sent(outbox.letters)
        self._io.publish(
            [[each.topic, each.body] for each in outbox.publications],
            [[*each.route, each.body] for each in outbox.letters],
        )
        self._readers.waits.tell(outbox.ended)

    def _send_letter(self, letter: Letter) -> None:
        self._audit.sent([letter])
        self._io.publish([], [[*letter.route, letter.body]])

    def _note_tick(self) -> None:
        """Refresh the snapshot; on the engine thread, after each tick or failed try."""
        self._last_tick_at = self._clock.now()
        self._snapshot = self._figures("degraded" if self._engine.away else "ok")

    def _figures(self, status: str) -> dict[str, Any]:
        state = self._state
        return {
            "status": status,
            **self._reason(),
            "core_id": state.core_id,
            "epoch": state.epoch,
            "database": "away" if self._engine.away else "ok",
            "sessions": sum(1 for each in state.sessions.values() if each.registration_id),
            "steps_in_hand": sum(len(each.holding) for each in state.sessions.values()),
            "viable_steps": len(state.viable),
            "open_batches": len(state.deadlines),
            "inbox": len(self._mailbox),
            "ticks": self._engine.ticks,
            **self._audit.figures(),
        }

    def _reason(self) -> dict[str, str]:
        if not self._engine.away:
            return {}
        return {"reason": f"the database cannot be used now: {self._engine.away_because}"}

    def _health_answer(self) -> Mapping[str, Any]:
        """The snapshot, with what only the asker's moment can tell."""
        answer = dict(self._snapshot)
        if self._last_tick_at is not None:
            age = (self._clock.now() - self._last_tick_at) / timedelta(seconds=1)
            answer["last_tick_seconds_ago"] = round(age, 3)
            if age > STALL_SECONDS:
                answer["status"] = "stalled"
                answer["reason"] = f"no tick has ended for {age:.0f} s"
        state: CoreState | None = getattr(self, "_state", None)
        if self._stop_asked or (state is not None and state.draining):
            answer["status"] = "draining"
        return answer

    def stop(self) -> None:
        """Begin to drain; safe in a signal handler, for it takes no lock that `run` may hold."""
        state: CoreState | None = getattr(self, "_state", None)
        if state is not None:
            state.draining = True  # the next tick sends nothing new
        self._stop_asked = True
        self._wakeup.wake()

    def run(self) -> None:
        """Serve until `stop`, then drain; raises what ended a thread."""
        while not self._stop_asked:
            self._check_threads()
            self._wakeup.wait(THREADS_SECONDS)
        self._drain()

    def _check_threads(self) -> None:
        for failure in (self._engine.failure, self._io.failure):
            if failure is not None:
                raise failure

    def _drain(self) -> None:
        """Send nothing new, take results until nothing is in hand or the grace is over."""
        state = self._state
        state.draining = True
        log(logger, logging.INFO, Event.DAEMON_DRAINING, in_hand=self._in_hand())
        until = self._clock.monotonic() + self._settings.drain.grace_seconds
        while self._in_hand() and self._clock.monotonic() < until:
            self._check_threads()
            time.sleep(LOOK_AGAIN_SECONDS)

    def _in_hand(self) -> int:
        return sum(len(each.holding) for each in list(self._state.sessions.values()))

    def close(self) -> None:
        """Stop the threads, give the core's name back, close everything."""
        state = getattr(self, "_state", None)
        if state is not None:
            self._stop_engine()
            try:
                with self._database.begin() as connection:
                    worker_store.end_core(
                        connection, state.core_id, state.epoch, now=self._clock.now()
                    )
            except Exception as error:  # noqa: BLE001 - the lease ends by itself
                log(logger, logging.WARNING, Event.DATABASE_AWAY, error=str(error)[:200])
        self._stack.close()
        log(logger, logging.INFO, Event.DAEMON_STOPPED, core_id=self._settings.core_id)
