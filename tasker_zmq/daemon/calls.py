"""Calls of allowed functions: each on a thread of its own, answered in time whatever it does."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import answer_question
from tasker_zmq.commands.calling import Functions
from tasker_zmq.commands.replies import Asked, CommandRefusedError, refusal
from tasker_zmq.commands.router import Route
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer

RUNNING_MAX: Final = 8  # those that were given up count until they end


@dataclass(eq=False)
class _Running:
    asked: Asked
    timer: threading.Timer | None = None
    answered: threading.Lock = field(default_factory=threading.Lock)


class Calls:
    """No thread can be ended from outside: who does not return is only waited for no longer."""

    def __init__(
        self,
        functions: Functions,
        *,
        seconds: float,
        core_id: str,
        clock: Clock,
        send: Callable[[Letter], None],
    ) -> None:
        self._functions = functions
        self._seconds = seconds
        self._core_id = core_id
        self._clock = clock
        self._send = send
        self._places = threading.BoundedSemaphore(RUNNING_MAX)

    def ask(self, route: Route, asked: Asked) -> None:
        """Have it run, and answered; refused when too many run already."""
        if not self._places.acquire(blocking=False):
            self._refuse(asked, "busy", f"{RUNNING_MAX} calls run already")
            return
        running = _Running(asked)
        running.timer = threading.Timer(self._seconds, self._give_up, [running])
        running.timer.daemon = True
        running.timer.start()
        thread = threading.Thread(
            target=self._run, args=(route, running), name="tasker-call", daemon=True
        )
        thread.start()

    def _run(self, route: Route, running: _Running) -> None:
        try:
            by = self._answerer()
            letter = answer_question(route, running.asked, self._functions, by=by)
        finally:
            self._places.release()
        if running.timer is not None:
            running.timer.cancel()
        if running.answered.acquire(blocking=False):  # and never released: one answer each
            self._send(letter)

    def _give_up(self, running: _Running) -> None:
        if running.answered.acquire(blocking=False):
            told = f"it has not returned within {self._seconds:g} s, and may still run"
            self._refuse(running.asked, "timed_out", told)

    def _refuse(self, asked: Asked, code: str, told: str) -> None:
        refused = CommandRefusedError(code, told, hint="ask later, or raise call.timeout_seconds")
        self._send(refusal(asked, refused, by=self._answerer()))

    def _answerer(self) -> Answerer:
        return Answerer(self._core_id, self._clock.now())
