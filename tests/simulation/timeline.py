"""Virtual time: what happens when, in one order, and what has happened so far."""

import hashlib
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.clock import BEGINNING

Deed = Callable[[], None]


class ViolationError(BaseException):
    """Something that must always hold did not; `promise` is its short name.

    No Exception: an engine that survives everything must not survive this.
    """

    def __init__(self, promise: str, detail: str) -> None:
        super().__init__(f"{promise}: {detail}")
        self.promise = promise
        self.detail = detail


class Timeline:
    """Deeds by the moment at which they are due; seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = count()
        self._deeds: list[tuple[float, int, Deed]] = []

    def at(self, moment: float, deed: Deed) -> None:
        heapq.heappush(self._deeds, (max(moment, self.now), next(self._numbers), deed))

    def after(self, seconds: float, deed: Deed) -> None:
        self.at(self.now + seconds, deed)

    def run_until(self, moment: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Do what is due up to `moment`, in order, or until `stop` says so."""
        while not stop() and self._deeds and self._deeds[0][0] <= moment:
            due, _, deed = heapq.heappop(self._deeds)
            self.now = max(self.now, due)
            deed()
        if not stop():
            self.now = max(self.now, moment)


class ProcessClock(ManualClock):
    """What one process reads: everyone's steady time, and a wall clock that may be wrong."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self.wrong_by = 0.0  # seconds

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=round(self._timeline.now + self.wrong_by, 6))

    def monotonic(self) -> float:
        return self._timeline.now


class Trace:
    """One line for each thing that happened; equal digests mean equal histories."""

    def __init__(self, timeline: Timeline) -> None:
        self.lines: list[str] = []
        self._timeline = timeline
        self._digest = hashlib.sha256()

    def note(self, what: str, *told: object) -> None:
        line = f"{self._timeline.now:9.4f} {what} {' '.join(map(str, told))}".rstrip()
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[:16]
