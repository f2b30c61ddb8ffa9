"""Runs that wait for a slot, and the flags by which these and started ones are cancelled."""

from collections.abc import Collection
from queue import Empty, SimpleQueue

from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.runs import RunKey, StepRun

Waiting = tuple[StepRun, Cancellation]


class WaitingRuns:
    """First come, first run. The worker's loop puts and takes back; slots take, on any thread."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Waiting | None] = SimpleQueue()
        self._flags: dict[RunKey, Cancellation] = {}  # of all runs that have not ended

    def put(self, run: StepRun) -> None:
        flag = self._flags[run.key] = Cancellation()
        self._waiting.put((run, flag))

    def take(self) -> Waiting | None:
        """The next one, as soon as there is one; None when the slot is to close."""
        return self._waiting.get()

    def take_now(self) -> Waiting | None:
        """The next one, or None when none waits."""
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None

    def close(self, slots: int) -> None:
        """Tell this many slots to close."""
        for _ in range(slots):
            self._waiting.put(None)

    def give_back(self) -> tuple[StepRun, ...]:
        """Every run that waits."""
        taken = self._take_all()
        for run, _ in taken:
            self.ended(run.key)
        return tuple(run for run, _ in taken)

    def cancel(self, keys: Collection[RunKey], reason: str) -> tuple[StepRun, ...]:
        """Set the flags of these runs; those of them that waited, which nobody will start now."""
        for key in keys:
            flag = self._flags.get(key)
            if flag is not None:
                flag.set(reason)
        dropped = []
        for run, flag in self._take_all():
            if flag.is_set:
                self.ended(run.key)
                dropped.append(run)
            else:
                self._waiting.put((run, flag))
        return tuple(dropped)

    def ended(self, key: RunKey) -> None:
        """The run has an outcome."""
        self._flags.pop(key, None)

    def _take_all(self) -> list[Waiting]:
        found = []
        while (waiting := self.take_now()) is not None:
            found.append(waiting)
        return found
