"""How many commands of a kind there were, by minute and session; for those too many to be kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from tasker_zmq.store.audit import Direction

TALLIES_MAX: Final = 20_000


class Counted(NamedTuple):
    """What is counted together; `outcome` is None for what has no answer."""

    minute: datetime
    direction: Direction
    command_type: str
    session_id: str | None
    outcome: str | None


@dataclass(slots=True)
class Tally:
    """How many, and how long all of them took."""

    messages: int = 0
    milliseconds: float = 0.0


class Tallies:
    """Bounded: sessions beyond so many, which somebody makes up, count as none."""

    def __init__(self, *, at_most: int = TALLIES_MAX) -> None:
        self._at_most = at_most
        self._tallies: dict[Counted, Tally] = {}

    def add(self, counted: Counted, *, milliseconds: float = 0.0) -> None:
        key = counted._replace(minute=_minute(counted.minute))
        if key not in self._tallies and len(self._tallies) >= self._at_most:
            key = key._replace(session_id=None)
        tally = self._tallies.setdefault(key, Tally())
        tally.messages += 1
        tally.milliseconds += milliseconds

    def over(self, now: datetime) -> list[tuple[Counted, Tally]]:
        """Take out the minutes that are over."""
        past = [key for key in self._tallies if key.minute < _minute(now)]
        return [(key, self._tallies.pop(key)) for key in past]

    def everything(self) -> list[tuple[Counted, Tally]]:
        """Take out all, for nothing more will come."""
        found = list(self._tallies.items())
        self._tallies.clear()
        return found


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
