"""What a core remembers of whom it reaches: what the rows say, and about whom to look again.

It can be made again: a core that starts has no rows of the kind, and no sessions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tasker_zmq.pipeline.state import Session

# A new session is subscribed a few milliseconds later: else each would be written twice.
WRITTEN_AFTER: Final = timedelta(milliseconds=250)


@dataclass(frozen=True)
class Mark:
    """That something happened to a worker's sessions; `silent`: one fell silent, and is over."""

    number: int
    silent: bool


@dataclass
class Reached:
    """Workers by name: `told` is what the rows say, `marks` are those to look at."""

    told: dict[str, bool] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    due_at: datetime | None = None
    verified_at: datetime | None = None
    _marked: int = 0

    def note(self, worker: str, now: datetime, *, silent: bool = False) -> None:
        """Look again at this worker's sessions, soon."""
        self._marked += 1
        self.marks[worker] = Mark(self._marked, silent)
        if self.due_at is None:
            self.due_at = now + WRITTEN_AFTER

    def keep(
        self, told: Mapping[str, bool | None], marks: Mapping[str, Mark], now: datetime
    ) -> None:
        """The rows say so now; whoever was marked meanwhile stays marked."""
        for worker, reachable in told.items():
            if reachable is None:
                self.told.pop(worker, None)
            else:
                self.told[worker] = reachable
        for worker, mark in marks.items():
            if self.marks.get(worker) == mark:
                del self.marks[worker]
        self.due_at = now + WRITTEN_AFTER if self.marks else None


def is_reachable(sessions: Iterable["Session"]) -> bool:
    """Whether one of a worker's sessions gets what is published, as far as is known."""
    return any(each.subscribed and not each.deaf for each in sessions)
