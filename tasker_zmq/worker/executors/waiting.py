"""Runs that wait for a slot, and the flags by which these and started ones are cancelled."""

import threading
from collections import deque
from collections.abc import Collection

from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.runs import RunKey, StepRun

Waiting = tuple[StepRun, Cancellation]


class WaitingRuns:
    """First come, first run. The worker's loop puts and takes back; slots take, on any thread.

    One slot at a time is called, that which has been idle for the shortest time, and it calls the
    next one when it leaves runs behind: handlers that take a while run side by side soon. Not so
    while `brisk`: where handlers take no time, one slot has them all done before a second one is
    awake. Who says so has to look, and to `call` slots when it was not true.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._idle: list[threading.Lock] = []  # one for each slot that waits to be called
        self._called = 0  # slots that were called and are not yet awake
        self._closing = 0
        self._flags: dict[RunKey, Cancellation] = {}  # of all runs that have not ended
        self.taken = 0  # runs, so far
        self.brisk = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_idle_slots(self) -> bool:
        return bool(self._idle)

    def put(self, run: StepRun) -> None:
        flag = self._flags[run.key] = Cancellation()
        with self._lock:
            followed = self.brisk and bool(self._waiting)  # by a slot that will be back soon
            self._waiting.append((run, flag))
            if followed or self._called or not self._idle:
                return
        self.call(1)

    def take(self) -> Waiting | None:
        """The next one, as soon as there is one; None when the slot is to close."""
        while (taken := self.take_now()) is None:
            with self._lock:
                if self._waiting:
                    continue
                if self._closing:
                    self._closing -= 1
                    return None
                called = threading.Lock()
                called.acquire()
                self._idle.append(called)
            called.acquire()
            with self._lock:
                self._called -= 1
        if self._waiting and not self.brisk:
            self.call(1)
        return taken

    def take_now(self) -> Waiting | None:
        """The next one, or None when none waits."""
        with self._lock:
            if not self._waiting:
                return None
            self.taken += 1
            return self._waiting.popleft()

    def call(self, slots: int) -> None:
        """Have so many slots under way to what waits, as far as there are idle ones."""
        with self._lock:
            for _ in range(min(slots - self._called, len(self._idle))):
                self._called += 1
                self._idle.pop().release()

    def close(self, slots: int) -> None:
        """Tell this many slots to close, once nothing waits any more."""
        with self._lock:
            self._closing += slots
        self.call(slots)

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
