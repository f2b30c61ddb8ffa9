"""Readers: a few threads with read-only sessions, so that slow questions never hold the engine."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import answer_question
from tasker_zmq.commands.context import Observing
from tasker_zmq.commands.replies import Asked, CommandRefusedError, refusal, unanswerable
from tasker_zmq.commands.router import Lane, Route
from tasker_zmq.daemon.waits import Waits
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1_000
_ONE_MOMENT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

Question = tuple[Route, Asked]


@dataclass(frozen=True, kw_only=True)
class View:
    """What readers see besides rows: the time, and what the daemon last noted of itself."""

    clock: Clock
    snapshot: Callable[[], Mapping[str, Any]]


class Readers:
    """Answers questions in the order in which they came, `threads` at a time."""

    def __init__(
        self,
        database: Engine,
        view: View,
        *,
        threads: int,
        core_id: str,
        send: Callable[[Letter], None],
    ) -> None:
        self._database = database
        self._view = view
        self._core_id = core_id
        self._send = send
        self.waits = Waits(database, clock=view.clock, core_id=core_id, send=send)
        self._waiting: SimpleQueue[Question | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"tasker-reader-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        self.waits.start()
        for thread in self._threads:
            thread.start()

    def ask(self, route: Route, asked: Asked) -> None:
        if self._waiting.qsize() >= WAITING_MAX:
            busy = CommandRefusedError("busy", f"{WAITING_MAX} questions wait", hint="ask later")
            self._send(refusal(asked, busy, by=self._answerer()))
            return
        self._waiting.put((route, asked))

    def stop(self) -> None:
        self.waits.stop()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _serve(self) -> None:
        while (question := self._waiting.get()) is not None:
            self._answer(*question)

    def _answer(self, route: Route, asked: Asked) -> None:
        letter: Letter | None = None
        try:
            if route.lane is Lane.OBSERVER:
                letter = answer_question(route, asked, self._observing(), by=self._answerer())
                self._send(letter)
                return
            with self._database.connect() as connection:
                letter = answer_question(route, asked, connection, by=self._answerer())
                self._send(letter)  # the asker need not wait for the transaction's end
        except Exception as error:  # noqa: BLE001 - whatever it was, the asker gets an answer
            log(logger, logging.ERROR, Event.TICK_FAILED, error=repr(error)[:300])
            if letter is None:
                self._send(refusal(asked, unanswerable(error), by=self._answerer()))

    def _answerer(self) -> Answerer:
        return Answerer(self._core_id, self._view.clock.now())

    def _observing(self) -> Observing:
        clock = self._view.clock
        return Observing(
            connect=self._look,
            now=clock.now(),
            monotonic=clock.monotonic,
            snapshot=self._view.snapshot(),
        )

    @contextmanager
    def _look(self) -> Iterator[Connection]:
        with self._database.connect() as connection:
            connection.execute(_ONE_MOMENT)
            yield connection
