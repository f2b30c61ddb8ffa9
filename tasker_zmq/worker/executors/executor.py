"""What the worker's loop asks of an executor, and the inbox through which it hears back."""

import socket
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Final, Protocol

from tasker_zmq.worker.runs import Outcome, Progress, RunEvent, RunKey, StepRun

# How long a result may lie until the loop looks for it, when whoever has it has more to come.
LOOK_SECONDS: Final = 0.001
# The worker's loop sleeps at most this long, so only a shorter timeout needs to wake it.
LOOP_SLEEP_SECONDS_MAX: Final = 2.0


class Executor(Protocol):
    """Runs steps, at most `concurrency` at once; every submitted run gets exactly one Outcome."""

    def start(self) -> None:
        """Open the slots."""

    def submit(self, run: StepRun) -> None:
        """Run it as soon as a slot is free, in the order of submission."""

    def expire(self) -> None:
        """Give up the runs that took too long."""

    def next_deadline(self) -> float | None:
        """When `expire` has something to do at the earliest, on the monotonic clock."""

    def give_back(self) -> tuple[StepRun, ...]:
        """Take back every run that has not started."""

    def cancel(self, keys: Collection[RunKey], reason: str) -> None:
        """Drop those of these runs that wait, with an Outcome that says so; tell the others."""

    def stop(self) -> None:
        """Abandon what still runs and close the slots."""


class EventInbox:
    """Events from any thread to the worker's loop; a byte on a socket pair wakes its poll.

    One byte is enough until the loop has read it: to send one costs more than a short handler.
    """

    def __init__(self) -> None:
        self._events: deque[RunEvent] = deque()
        self._woken = False
        self._looks_soon = False
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)

    def fileno(self) -> int:
        """What the loop polls for reading."""
        return self._reader.fileno()

    def put(self, key: RunKey, what: Outcome | Progress, *, more_follows: bool = False) -> None:
        """Hand an event over; wake the loop, unless more follows at once and it looks anyhow."""
        self._events.append(RunEvent(key, what))
        if not (more_follows and self._looks_soon):
            self.wake()

    def look_soon(self, *, promised: bool) -> None:
        """The loop says whether it will sleep no longer than LOOK_SECONDS from now on."""
        self._looks_soon = promised
        if not promised and self._events:
            self.wake()

    def wake(self) -> None:
        """End the loop's sleep; also from a signal handler."""
        if self._woken:
            return
        self._woken = True
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # so many bytes are waiting that the loop wakes anyhow
        except OSError:
            return  # closed: the loop is gone, and with it whoever wanted to know

    def take(self) -> list[RunEvent]:
        """Every event so far; the byte is read first, so that none is slept through."""
        if self._woken:
            with suppress(BlockingIOError):
                self._reader.recv(4096)
            self._woken = False
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
