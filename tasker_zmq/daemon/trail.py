"""What passed by on the lanes, kept for the scribe: bounded, and never in anybody's way."""

import threading
from collections.abc import Sequence
from typing import Final

from tasker_zmq.clock import Clock
from tasker_zmq.commands.audit_rows import Noted
from tasker_zmq.pipeline.inbox import Letter, ReceivedCommand
from tasker_zmq.protocol.commands import Command
from tasker_zmq.store.audit import Direction

NOTED_MAX: Final = 20_000
BYTES_MAX: Final = 32 << 20
GROUP: Final = 500  # so many are worth writing before it is time


class AuditTrail:
    """Any thread notes, one thread takes; what finds no room is only counted."""

    def __init__(
        self, clock: Clock, *, noted_max: int = NOTED_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._clock = clock
        self._noted_max, self._bytes_max = noted_max, bytes_max
        self._noted: list[Noted] = []
        self._bytes = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._many = threading.Event()

    def __len__(self) -> int:
        return len(self._noted)

    def received(self, received: ReceivedCommand, command: Command | None) -> None:
        """A command arrived; None for bytes that make none."""
        at, body = received.received_at or self._clock.now(), received.body
        self._note([Noted(at, Direction.RECEIVED, received.route, body, command)], len(body))

    def sent(self, letters: Sequence[Letter]) -> None:
        """Answers, and what the daemon says unasked, are on their way."""
        at = self._clock.now()
        passed = [Noted(at, Direction.SENT, each.route, each.body) for each in letters]
        self._note(passed, sum([len(each.body) for each in letters]))

    def _note(self, noted: Sequence[Noted], size: int) -> None:
        with self._lock:
            room = len(self._noted) + len(noted) <= self._noted_max
            if room and self._bytes + size <= self._bytes_max:
                self._noted.extend(noted)
                self._bytes += size
            else:
                self._lost += len(noted)
            many = len(self._noted) >= GROUP
        if many:
            self._many.set()

    def take(self) -> tuple[list[Noted], int]:
        """What has passed by, in its order, and how many found no room; both are forgotten here."""
        with self._lock:
            taken, self._noted = self._noted, []
            lost, self._lost = self._lost, 0
            self._bytes = 0
            self._many.clear()
        return taken, lost

    def wait(self, seconds: float) -> None:
        """For so long, or until there is much to take."""
        self._many.wait(seconds)

    def kick(self) -> None:
        """End a wait."""
        self._many.set()
