"""The bounded inbox between the io thread and the engine, in two lanes.

Results and the life of workers come first: a flood of new tasks must not make a healthy worker look
silent, nor keep finished work waiting. What comes later waits in lines of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence

from tasker_zmq.daemon.line import Lines
from tasker_zmq.domain.urgency import Urgency
from tasker_zmq.pipeline.inbox import Received, ReceivedResult

# The last result of a batch and its completion arrive a moment apart: waiting that moment, once and
# only when the engine was idle, makes them one transaction instead of two.
GATHER_SECONDS = 0.00015
GATHER_BELOW = 2


class Mailbox:
    """Bounded in messages and bytes: when full, the io thread stops reading and TCP pushes back."""

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._first: deque[Received] = deque()
        self._later = Lines()
        self._bytes = 0
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._kicked = False

    def __len__(self) -> int:
        return len(self._first) + len(self._later)

    @property
    def room(self) -> bool:
        return len(self) < self._messages_max and self._bytes < self._bytes_max

    def put(
        self, received: Received, *, later: bool = False, urgency: Urgency = Urgency.NORMAL
    ) -> None:
        with self._filled:
            was_empty = not self._first and not self._later
            if later:
                self._later.put(received, urgency)
            else:
                self._first.append(received)
            self._bytes += received.size
            if was_empty:
                self._filled.notify()

    def put_results(self, results: Sequence[ReceivedResult]) -> None:
        """Several at once, the oldest first."""
        size = sum(each.size for each in results)
        with self._filled:
            was_empty = not self._first and not self._later
            self._first.extend(results)
            self._bytes += size
            if was_empty:
                self._filled.notify()

    def kick(self) -> None:
        """Wake the engine though nothing came."""
        with self._filled:
            self._kicked = True
            self._filled.notify()

    def take(self, first_max: int, later_max: int, timeout_seconds: float) -> list[Received]:
        """What has come, oldest first in each line; waits up to `timeout_seconds` for the first."""
        with self._filled:
            waited = (
                not self._first and not self._later and not self._kicked and timeout_seconds > 0
            )
            if waited:
                self._filled.wait(timeout_seconds)
        if waited and len(self) < GATHER_BELOW:
            time.sleep(GATHER_SECONDS)
        with self._filled:
            self._kicked = False
            taken = _take(self._first, first_max) + self._later.take(later_max)
            self._bytes -= sum(each.size for each in taken)
            return taken


def _take(lane: deque[Received], at_most: int) -> list[Received]:
    return [lane.popleft() for _ in range(min(at_most, len(lane)))]
