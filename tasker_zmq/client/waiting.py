"""Waits for tasks to end: all that are waited for, asked about in one question at a time."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tasker_zmq.client.link import Answer, Link
from tasker_zmq.client.views import WaitTimeoutError
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES
from tasker_zmq.errors import TaskerError, UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import TASKS_PER_QUESTION_MAX, GetTaskStates, TaskStates

PAUSE_SECONDS_MIN: Final = 0.02  # after something ended, or somebody new waits
PAUSE_SECONDS_MAX: Final = 0.5
PAUSE_GROWTH: Final = 1.3
WAIT_SECONDS: Final = 0.5  # that a daemon waits with its answer; the end elsewhere is seen then

Ended = Future[None]


@dataclass(frozen=True)
class _Asking:
    """A question that is under way: which one, and since when."""

    round: int
    began: float


class Waiting:
    """On the link's thread, but for `wait`; a future is done when its task has ended."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[TaskId, list[Ended]] = {}
        self._round = 0  # of questions: who asks begins one, and only the last one goes on
        self._ahead = False  # whether one is about to begin
        self._pause = PAUSE_SECONDS_MIN

    def wait(self, task_id: TaskId, *, timeout_seconds: float | None) -> Ended:
        """From any thread; the future raises WaitTimeoutError after so many seconds.

        A task that does not exist has ended: whoever then looks at it learns that.
        """
        ended: Ended = Future()
        self._link.order(lambda: self._begin(task_id, ended, timeout_seconds))
        return ended

    def _begin(self, task_id: TaskId, ended: Ended, timeout_seconds: float | None) -> None:
        if timeout_seconds is not None:
            said = f"task {task_id} has not ended within {timeout_seconds:g} s"
            self._link.later(timeout_seconds, lambda: _give_up(ended, WaitTimeoutError(said)))
        alone = not self._waiting
        self._waiting.setdefault(task_id, []).append(ended)
        self._pause = PAUSE_SECONDS_MIN
        if alone:
            self._ask()
        elif not self._ahead:  # the daemon is asked about others: those that begin now share one
            self._ask_later()

    def _ask_later(self) -> None:
        self._ahead = True
        self._link.later(self._pause, self._ask)

    def _ask(self) -> None:
        self._ahead = False
        self._round += 1
        asking = _Asking(self._round, self._link.now())
        for task_id, futures in list(self._waiting.items()):
            futures[:] = [each for each in futures if not each.done()]
            if not futures:
                del self._waiting[task_id]
        if not self._waiting:
            return
        # Those asked about go to the back, so that each has its turn however many there are.
        asked = tuple(islice(self._waiting, TASKS_PER_QUESTION_MAX))
        for task_id in asked:
            self._waiting[task_id] = self._waiting.pop(task_id)
        try:
            question = GetTaskStates(task_ids=asked, wait_seconds=self._wait_seconds())
            answer = self._link.ask("GetTaskStates", question)
        except UnreachableError as error:  # closed
            self._fail(list(self._waiting), error)
            return
        answer.add_done_callback(lambda done: self._take(asked, done, asking))

    def _wait_seconds(self) -> float | None:
        """None: there are more to be asked about, and they must not wait for these."""
        return WAIT_SECONDS if len(self._waiting) <= TASKS_PER_QUESTION_MAX else None

    def _take(self, asked: tuple[TaskId, ...], answer: Answer, asking: _Asking) -> None:
        try:
            states = codec.decode_data(answer.result(), TaskStates).states
        except UnreachableError:
            self._again(asking)  # whoever waits says how long
            return
        except TaskerError as error:
            self._fail(asked, error)
            self._again(asking)
            return
        known = {each.task_id: each.state for each in states}
        over = [each for each in asked if known.get(each) not in OPEN_TASK_STATES]
        for task_id in over:
            for ended in self._waiting.pop(task_id, ()):
                if not ended.done() and ended.set_running_or_notify_cancel():
                    ended.set_result(None)
        if over:
            self._pause = PAUSE_SECONDS_MIN
        self._again(asking)

    def _again(self, asking: _Asking) -> None:
        if asking.round != self._round or not self._waiting or self._ahead:
            return
        if self._link.now() - asking.began >= WAIT_SECONDS:
            self._ask()  # the daemon has waited: an older one does not, and is asked now and then
            return
        self._ask_later()
        self._pause = min(self._pause * PAUSE_GROWTH, PAUSE_SECONDS_MAX)

    def _fail(self, task_ids: Iterable[TaskId], error: TaskerError) -> None:
        for task_id in task_ids:
            for ended in self._waiting.pop(task_id, ()):
                _give_up(ended, error)


def _give_up(ended: Ended, error: TaskerError) -> None:
    if not ended.done() and ended.set_running_or_notify_cancel():
        ended.set_exception(error)
