"""The bounded inbox between the io thread and the engine."""

import threading
from collections import deque

from tasker_zmq.pipeline.inbox import Received


class Mailbox:
    """Bounded in messages and bytes: when full, the io thread stops reading and TCP pushes back."""

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._queue: deque[Received] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._kicked = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def room(self) -> bool:
        return len(self._queue) < self._messages_max and self._bytes < self._bytes_max

    def put(self, received: Received) -> None:
        with self._filled:
            self._queue.append(received)
            self._bytes += received.size
            if len(self._queue) == 1:
                self._filled.notify()

    def kick(self) -> None:
        """Wake the engine though nothing came."""
        with self._filled:
            self._kicked = True
            self._filled.notify()

    def take(self, at_most: int, timeout_seconds: float) -> list[Received]:
        """What has come, oldest first; waits up to `timeout_seconds` for the first."""
        with self._filled:
            if not self._queue and not self._kicked and timeout_seconds > 0:
                self._filled.wait(timeout_seconds)
            self._kicked = False
            taken = [self._queue.popleft() for _ in range(min(at_most, len(self._queue)))]
            self._bytes -= sum(each.size for each in taken)
            return taken
