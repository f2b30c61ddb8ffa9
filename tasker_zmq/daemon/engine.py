"""The engine thread: takes what arrived, ticks in one transaction, hands the outbox back."""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import read
from tasker_zmq.commands.replies import CommandRefusedError, refusal
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.pipeline import ledger
from tasker_zmq.pipeline.inbox import Letter, Outbox, Received, ReceivedCommand, ReceivedResult
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.tick import Tick
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.upkeep import CoreLostError, forgive_absence, next_due
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.connection import (
    is_away,
    is_cancelled,
    is_conflict,
    is_held_up,
    sql_state,
)
from tasker_zmq.store.ledger import Recording
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

CONFLICT_TRIES = 5
AWAY_SECONDS_MIN, AWAY_SECONDS_MAX = 0.2, 2.0
SLEEP_SECONDS_MAX = 5.0

Send = Callable[[Outbox], None]


@dataclass(frozen=True, kw_only=True)
class EngineParts:
    """What an engine works with; `ticked` is called after each tick or failed try.

    `connection` is the first to tick on: one that holds the core's name already.
    """

    tick: Tick
    state: CoreState
    tuning: Tuning
    database: Engine
    mailbox: Mailbox
    send: Send
    clock: Clock
    dice: random.Random
    messages_max: int
    commands_max: int
    ticked: Callable[[], None]
    connection: Connection | None = None


class EngineThread(threading.Thread):
    """Ticks until stopped; an outage makes it wait, a poisonous message makes it bisect."""

    def __init__(self, parts: EngineParts) -> None:
        super().__init__(name="tasker-engine", daemon=True)
        self._parts = parts
        self._state = parts.state
        self._tuning = parts.tuning
        self._clock = parts.clock
        self._stopping = threading.Event()
        self._connection = parts.connection
        self._ticked_at = parts.clock.monotonic()
        self._rested = self._forgiven = 0.0
        self.ticks = 0
        self.away = False
        self.away_because = ""
        self._told: set[str | None] = set()
        self.failure: BaseException | None = None

    def stop(self) -> None:
        self._stopping.set()
        self._parts.mailbox.kick()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._rested = self._patience()
                inbox = self._parts.mailbox.take(
                    self._parts.messages_max, self._parts.commands_max, self._rested
                )
                self._deal_with(inbox)
                self._parts.ticked()
        except CoreLostError as error:  # the daemon ends with its message
            self.failure = error
            core_id, epoch = self._state.core_id, self._state.epoch
            log(logger, logging.CRITICAL, Event.CORE_LOST, core_id=core_id, epoch=epoch)
        except BaseException as error:  # noqa: BLE001 - the daemon looks at it and ends
            self.failure = error
            log(logger, logging.CRITICAL, Event.TICK_FAILED, error=repr(error), fatal=True)
        finally:
            self._drop_connection()

    def _patience(self) -> float:
        now = self._clock.now()
        due = next_due(self._state, self._tuning, now)
        return min(max(0.0, (due - now) / timedelta(seconds=1)), SLEEP_SECONDS_MAX)

    def _deal_with(self, inbox: Sequence[Received]) -> None:
        """Tick over `inbox` until it is settled, whatever that takes."""
        wait = AWAY_SECONDS_MIN
        while not self._stopping.is_set() or inbox:
            try:
                self._settle(inbox)
            except CoreLostError:
                raise
            except Exception as error:
                if not self._survive(error):
                    raise
                self._stopping.wait(wait * (0.5 + self._parts.dice.random() / 2))
                wait = min(wait * 2, AWAY_SECONDS_MAX)
                if self._stopping.is_set():
                    return
            else:
                self._note_back()
                return

    def _survive(self, error: Exception) -> bool:
        """Whether to try again: the database is away, or the fault is in no message."""
        if is_away(error):
            if sql_state(error) not in self._told:  # what is wrong may change: once for each
                log(logger, logging.ERROR, Event.DATABASE_AWAY, error=_first_line(error))
            self._told.add(sql_state(error))
            self.away = True
            self.away_because = _first_line(error)
            self._parts.ticked()
            return True
        log(logger, logging.ERROR, Event.TICK_FAILED, error=_first_line(error))
        logger.debug("tick failed", exc_info=error)
        return True

    def _note_back(self) -> None:
        if self.away:
            self.away = False
            self.away_because = ""
            self._told.clear()
            log(logger, logging.WARNING, Event.DATABASE_BACK)

    def _settle(self, inbox: Sequence[Received]) -> None:
        """Tick; on a failure that is not the database's, find the message that causes it."""
        try:
            self._run_tick(inbox)
        except CoreLostError:
            raise
        except Exception as error:
            if is_away(error) or is_held_up(error) or not inbox:
                raise  # a lock that somebody holds is no message's fault, however long it lasts
            log(logger, logging.WARNING, Event.TICK_FAILED, error=repr(error)[:300])
            logger.debug("tick failed", exc_info=error)
            self._run_tick([])  # if even this fails, the fault lies in no message
            if len(inbox) == 1:
                if is_cancelled(error) and isinstance(inbox[0], ReceivedResult):
                    raise  # one result is little work: a slow server is why, or a person
                self._bury(inbox[0], error)
                return
            middle = len(inbox) // 2
            self._settle(inbox[:middle])
            self._settle(inbox[middle:])

    def _forgive(self, now: datetime) -> None:
        """If this thread was held up for long, by whatever it was, that is nobody else's fault."""
        absent = self._clock.monotonic() - self._ticked_at - self._rested
        if absent > self._tuning.session_dead_seconds / 2:
            forgive_absence(self._state, timedelta(seconds=absent - self._forgiven), now)
            self._forgiven = absent

    def _run_tick(self, inbox: Sequence[Received]) -> None:
        for tries_left in reversed(range(CONFLICT_TRIES)):
            now, began = self._clock.now(), self._clock.monotonic()
            self._forgive(now)
            try:
                with self._transaction() as connection:
                    ticked = self._parts.tick.run(connection, inbox, now)
                break
            except Exception as error:
                self._state.doubt()
                self._state.unsure |= is_away(error)
                stale = isinstance(error, StaleWriteError)
                if not tries_left or not (stale or is_conflict(error)):
                    raise
        else:
            raise AssertionError("the last try returns or raises")
        self.ticks += 1
        # Not when it ended: a tick may have been stopped in its middle.
        self._ticked_at, self._forgiven = began, 0.0
        ticked.changes.carry_out()
        if ticked.outbox:
            for publication in ticked.outbox.publications:
                self._state.published[publication.batch_id] = now
            self._parts.send(ticked.outbox)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """On one connection that is kept: fetching one for each tick costs as much as a statement.

        After any failure but a stale write it is thrown away, whatever state it may be in.
        """
        try:
            if self._connection is None:
                self._connection = self._parts.database.connect()
                # Meanwhile nothing held the name: the next tick asks whether it is still ours.
                self._state.lease_renewed_at = None
                with self._connection.begin():
                    worker_store.hold_name(self._connection, self._state.core_id)
            with self._connection.begin():
                yield self._connection
        except StaleWriteError:
            raise
        except BaseException:
            self._drop_connection()
            raise

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
            connection.close()

    def _bury(self, received: Received, error: Exception) -> None:
        """Keep one poisonous message in the ledger, or tell the sender of a poisonous command."""
        log(logger, logging.ERROR, Event.MESSAGE_POISONOUS, error=repr(error)[:300])
        if isinstance(received, ReceivedCommand):
            self._parts.send(Outbox(letters=[self._apologise(received)]))
        elif isinstance(received, ReceivedResult):
            row = ledger.poison_row(b" ".join(received.frames), repr(error))
            with self._transaction() as connection:
                received_row = Recording(entries=[row], core_id=self._state.core_id)
                step_store.apply(connection, [], received_row, now=self._clock.now())

    def _apologise(self, received: ReceivedCommand) -> Letter:
        by = Answerer(self._state.core_id, self._clock.now())
        found = read(received, self._tuning.limits, by=by)
        if isinstance(found, Letter):
            return found
        refused = CommandRefusedError(
            "failed", "the daemon could not carry this out", hint="its log says why"
        )
        return refusal(found[1], refused, by=by)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
