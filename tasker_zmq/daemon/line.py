"""The lines in which commands wait for the engine: the urgent go first, all go on."""

from collections import deque
from itertools import cycle
from typing import Final

from tasker_zmq.domain.urgency import Urgency
from tasker_zmq.pipeline.inbox import Received

# Of 15 that are taken while all wait: so many of each.
SHARES: Final = {Urgency.URGENT: 8, Urgency.HIGH: 4, Urgency.NORMAL: 2, Urgency.LOW: 1}
# What is taken at once is one transaction, for which heartbeats and results wait: a command may ask
# for a thousand tasks.
TAKEN_BYTES_MAX: Final = 1 << 19


class Lines:
    """First come, first served within a line; between lines by their shares."""

    def __init__(self, *, bytes_max: int = TAKEN_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._lines: dict[Urgency, deque[Received]] = {each: deque() for each in Urgency}
        self._turns = cycle([each for each, share in SHARES.items() for _ in range(share)])
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, received: Received, urgency: Urgency) -> None:
        self._lines[urgency].append(received)
        self._length += 1

    def take(self, at_most: int) -> list[Received]:
        """Up to `at_most`, or a few if they are large; a line that is empty gives its turn away."""
        taken: list[Received] = []
        size = 0
        while len(taken) < at_most and size < self._bytes_max:
            waiting = [line for line in self._lines.values() if line]
            if not waiting:
                break
            line = waiting[0] if len(waiting) == 1 else self._lines[next(self._turns)]
            if line:
                taken.append(line.popleft())
                size += taken[-1].size
        self._length -= len(taken)
        return taken
