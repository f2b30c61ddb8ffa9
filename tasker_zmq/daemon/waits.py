"""Questions that are answered once a task has ended: one look at the rows for all who wait."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import answer_question
from tasker_zmq.commands.replies import Asked, refusal, unanswerable
from tasker_zmq.commands.router import Route
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES
from tasker_zmq.errors import ProtocolError
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import TASKS_PER_QUESTION_MAX, GetTaskStates
from tasker_zmq.store import steps as step_store
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1_000  # questions; whoever asks beyond that is answered at once
WAIT_SECONDS_MAX: Final = 30.0

States = Mapping[TaskId, str]


@dataclass(frozen=True)
class _Waiting:
    """A question, and until when it may wait, on the monotonic clock."""

    route: Route
    asked: Asked
    task_ids: Collection[TaskId]
    until: float


class Waits:
    """A thread that looks at the rows when it is told that a task may have ended.

    Nobody tells of tasks that end elsewhere: with other cores, or by SQL. Those are seen when the
    time of whoever waits for them is up.
    """

    def __init__(
        self, database: Engine, *, clock: Clock, core_id: str, send: Callable[[Letter], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._core_id = core_id
        self._send = send
        self._waiting: dict[int, _Waiting] = {}
        self._named: dict[TaskId, set[int]] = {}  # which questions are about a task
        self._due: set[int] = set()  # to be looked at
        self._number = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="tasker-waits", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer all who still wait: they may ask another core."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def ask(self, route: Route, asked: Asked) -> None:
        """From any thread; the answer is sent when a task has ended, or the time is up."""
        task_ids, seconds = _wish(asked)
        with self._changed:
            if len(self._waiting) >= WAITING_MAX:
                seconds = 0.0
            until = self._clock.monotonic() + seconds
            self._number += 1
            self._waiting[self._number] = _Waiting(route, asked, task_ids, until)
            for task_id in task_ids:
                self._named.setdefault(task_id, set()).add(self._number)
            self._due.add(self._number)
            self._changed.notify()

    def tell(self, task_ids: Iterable[TaskId]) -> None:
        """These may have ended; from any thread, and never waiting for the rows."""
        if not self._named:
            return
        with self._changed:
            due = [self._named[each] for each in task_ids if each in self._named]
            if due:
                self._due.update(*due)
                self._changed.notify()

    def _serve(self) -> None:
        while (due := self._next()) is not None:
            self._look(due)

    def _next(self) -> Mapping[int, _Waiting] | None:
        """Those to be looked at, once there are any; None: this is the end."""
        with self._changed:
            while not self._due and not self._stopping:
                now = self._clock.monotonic()
                soonest = min((each.until for each in self._waiting.values()), default=None)
                if soonest is None or soonest > now:
                    self._changed.wait(None if soonest is None else soonest - now)
                    continue
                self._due.update(n for n, each in self._waiting.items() if each.until <= now)
            due, self._due = set(self._waiting) if self._stopping else self._due, set()
            found = {n: self._waiting[n] for n in sorted(due) if n in self._waiting}
            return None if self._stopping and not found else found

    def _look(self, due: Mapping[int, _Waiting]) -> None:
        by = Answerer(self._core_id, self._clock.now())
        try:
            states = self._states({each for one in due.values() for each in one.task_ids})
        except Exception as error:  # noqa: BLE001 - whatever it was, the askers get an answer
            log(logger, logging.ERROR, Event.TICK_FAILED, error=repr(error)[:300])
            for number, each in due.items():
                self._answer(number, refusal(each.asked, unanswerable(error), by=by))
            return
        now = self._clock.monotonic()
        for number, each in due.items():
            over = any(states.get(task) not in OPEN_TASK_STATES for task in each.task_ids)
            if over or now >= each.until or self._stopping:
                self._answer(number, answer_question(each.route, each.asked, states, by=by))

    def _states(self, task_ids: Collection[TaskId]) -> States:
        if not task_ids:
            return {}
        with self._database.connect() as connection:
            return step_store.states(connection, sorted(task_ids))

    def _answer(self, number: int, letter: Letter) -> None:
        with self._changed:
            for task_id in self._waiting.pop(number).task_ids:
                about = self._named[task_id]
                about.discard(number)
                if not about:
                    del self._named[task_id]
            self._due.discard(number)
        self._send(letter)


def _wish(asked: Asked) -> tuple[Sequence[TaskId], float]:
    """The tasks, and how many seconds to wait: for what will be refused, none."""
    try:
        request = codec.decode_data(asked.command.payload.data, GetTaskStates)
    except ProtocolError:
        return (), 0.0
    if len(request.task_ids) > TASKS_PER_QUESTION_MAX:
        return (), 0.0
    seconds = min(max(request.wait_seconds or 0.0, 0.0), WAIT_SECONDS_MAX)
    return tuple(dict.fromkeys(request.task_ids)), seconds
