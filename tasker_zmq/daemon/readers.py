"""Readers: a few threads with read-only sessions, so that slow questions never hold the engine."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from sqlalchemy import Engine, text

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import answer_question
from tasker_zmq.commands.replies import Answerer, Asked, CommandRefusedError, refusal
from tasker_zmq.commands.router import Route
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.store.connection import is_away
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WAITING_MAX = 1_000

Question = tuple[Route, Asked]


class Readers:
    """Answers questions in the order in which they came, `threads` at a time."""

    def __init__(
        self,
        database: Engine,
        *,
        threads: int,
        core_id: str,
        clock: Clock,
        send: Callable[[Letter], None],
    ) -> None:
        self._database = database
        self._core_id = core_id
        self._clock = clock
        self._send = send
        self._waiting: SimpleQueue[Question | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"tasker-reader-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ask(self, route: Route, asked: Asked) -> None:
        if self._waiting.qsize() >= WAITING_MAX:
            refused = CommandRefusedError("busy", f"{WAITING_MAX} questions wait", hint="ask later")
            self._send(refusal(asked, refused, by=self._answerer()))
            return
        self._waiting.put((route, asked))

    def stop(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _serve(self) -> None:
        while (question := self._waiting.get()) is not None:
            self._send(self._answer(*question))

    def _answer(self, route: Route, asked: Asked) -> Letter:
        try:
            with self._database.connect() as connection:
                connection.execute(text("SET TRANSACTION READ ONLY"))
                return answer_question(route, asked, connection, by=self._answerer())
        except Exception as error:  # noqa: BLE001 - whatever it was, the asker gets an answer
            log(logger, logging.ERROR, Event.TICK_FAILED, error=repr(error)[:300])
            code = "database_away" if is_away(error) else "failed"
            refused = CommandRefusedError(code, "the question could not be answered")
            return refusal(asked, refused, by=self._answerer())

    def _answerer(self) -> Answerer:
        return Answerer(self._core_id, self._clock.now())
