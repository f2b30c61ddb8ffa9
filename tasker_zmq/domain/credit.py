"""How many steps a worker may hold, and how it shares them out among the cores that send them.

A credit is meant for steps of any length. Steps that end at once would leave a worker idle while
its core deals with what came back, so of those it may be sent more: what it ends in a moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

MOMENT: Final = timedelta(seconds=0.25)
BURST_FACTOR: Final = 16  # times the concurrency
BURST_MIN: Final = 128  # steps
BURST_MAX: Final = 10_000
LONG: Final = timedelta(seconds=1)  # a step that is in hand for longer is none that ends at once


def whole_credit(concurrency: int, factor: float) -> int:
    """How many steps a worker may hold in all, whoever sent them."""
    return max(1, round(concurrency * factor))


def granted_credit(whole: int, granted: int | None) -> int:
    """What one core may send of the whole; None: this worker has no other core."""
    return whole if granted is None else max(1, min(granted, whole))


def burst_for(concurrency: int) -> int:
    """How many steps a worker of ours holds if they end at once: enough to be busy meanwhile."""
    return min(max(concurrency * BURST_FACTOR, BURST_MIN), BURST_MAX)


def burst_share(burst: int, *, credit: int, whole: int) -> int:
    """What one core may send of a burst: the same part as of the whole credit, and no less."""
    return max(credit, burst * credit // max(whole, 1))


@dataclass
class Pace:
    """How many steps ended lately, counted by the moment."""

    _ends_at: datetime | None = None  # the moment that is being counted
    _count: int = 0
    _former: int = 0

    def note(self, ended: int, now: datetime) -> None:
        """So many more have ended."""
        if self._ends_at is None or now >= self._ends_at:
            self._former = self.lately(now)
            self._count, self._ends_at = 0, now + MOMENT
        self._count += ended

    def lately(self, now: datetime) -> int:
        """How many ended in this moment, or in the one before if those were more."""
        if self._ends_at is None or now >= self._ends_at + MOMENT:
            return 0
        return self._count if now >= self._ends_at else max(self._count, self._former)


def shares(whole: int, wants: Sequence[int]) -> list[int]:
    """Share `whole` out among cores that want so much each: at least 1 for everyone.

    Who wants little gets it, and the others get equal parts of the rest. What nobody wants is
    spread over all, for what may come; so the sum is `max(whole, len(wants))`.
    """
    given = [1] * len(wants)
    left = whole - len(wants)
    while wants and left > 0:
        hungry = [place for place, want in enumerate(wants) if want > given[place]]
        places = (hungry or range(len(wants)))[:left]
        part = left // len(places)
        for place in places:
            more = min(wants[place] - given[place], part) if hungry else part
            given[place] += more
            left -= more
    return given
