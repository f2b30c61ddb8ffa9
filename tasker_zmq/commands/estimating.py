"""How long a task is likely to take: what the newest runs of its definition took.

One look per minute at the newest tasks, whatever their number: a submission costs no more for it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tasker_zmq.domain.ids import NamedTaskId
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.store import steps as store

LOOK_EVERY: Final = timedelta(minutes=1)
TASKS_MAX: Final = 2_000
KNOWN_MAX: Final = 10_000


@dataclass
class Estimates:
    """Milliseconds by definition, as they were when last looked at."""

    durations: dict[NamedTaskId, int] = field(default_factory=dict)
    looked_at: datetime | None = None

    def keep(self, found: dict[NamedTaskId, int], at: datetime) -> None:
        """What was not seen this time is still the best that is known."""
        merged = {**self.durations, **found}
        self.durations = merged if len(merged) <= KNOWN_MAX else found
        self.looked_at = at


def durations(estimates: Estimates, turn: Turn) -> dict[NamedTaskId, int]:
    """Milliseconds by definition; to be asked for at most once in a tick."""
    now = turn.now
    if estimates.looked_at is not None and now < estimates.looked_at + LOOK_EVERY:
        return estimates.durations
    found = store.recent_durations(turn.connection, at_most=TASKS_MAX)
    turn.changes.then(lambda: estimates.keep(found, now))
    return {**estimates.durations, **found}
