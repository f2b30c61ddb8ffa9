"""Runs that wait for a slot, and the flags by which these and started ones are cancelled."""

import threading
from collections import deque
from collections.abc import Collection
from queue import SimpleQueue

from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.runs import RunKey, StepRun

Waiting = tuple[StepRun, Cancellation]


class WaitingRuns:
    """First come, first run. The worker's loop puts and takes back; slots take, on any thread.

    One slot at a time is called, and calls the next one when it leaves runs behind: handlers that
    take a while run side by side soon, and those that take no time do not wake a slot each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()  # True: the slot that takes it is to close
        self._called = False  # a call is under way to some slot
        self._flags: dict[RunKey, Cancellation] = {}  # of all runs that have not ended

    def put(self, run: StepRun) -> None:
        flag = self._flags[run.key] = Cancellation()
        with self._lock:
            self._waiting.append((run, flag))
        self._call()

    def take(self) -> Waiting | None:
        """The next one, as soon as there is one; None when the slot is to close."""
        while (taken := self.take_now()) is None:
            if self._calls.get():
                return None
            self._called = False
        if self._waiting:
            self._call()
        return taken

    def take_now(self) -> Waiting | None:
        """The next one, or None when none waits."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def close(self, slots: int) -> None:
        """Tell this many slots to close, once nothing waits any more."""
        for _ in range(slots):
            self._calls.put(True)

    def _call(self) -> None:
        with self._lock:
            called, self._called = self._called, True
        if not called:
            self._calls.put(False)

    def give_back(self) -> tuple[StepRun, ...]:
        """Every run that waits."""
        with self._lock:
            taken, self._waiting = self._waiting, deque()
        for run, _ in taken:
            self.ended(run.key)
        return tuple(run for run, _ in taken)

    def cancel(self, keys: Collection[RunKey], reason: str) -> tuple[StepRun, ...]:
        """Set the flags of these runs; those of them that waited, which nobody will start now."""
        for key in keys:
            flag = self._flags.get(key)
            if flag is not None:
                flag.set(reason)
        with self._lock:
            dropped = [run for run, flag in self._waiting if flag.is_set]
            self._waiting = deque(each for each in self._waiting if not each[1].is_set)
        for run in dropped:
            self.ended(run.key)
        return tuple(dropped)

    def ended(self, key: RunKey) -> None:
        """The run has an outcome."""
        self._flags.pop(key, None)
