"""Whether a worker gets steps of a handler with which it failed again and again.

Closed: as many as it has room for. Open: none until its cool-off is over. Then half open: one step
at a time, whose outcome closes it or opens it again, for twice as long.
"""

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from tasker_zmq.domain.ids import BatchId, HandlerClass

FAILURES: Final = 10
COOL_OFF_SECONDS: Final = 10.0
COOL_OFF_SECONDS_MAX: Final = 300.0
FORGOTTEN_AFTER: Final = timedelta(days=1)  # names of workers may come once and never again


class Pair(NamedTuple):
    """What a breaker is about: the others of the worker's handlers have their own."""

    worker_name: str
    handler_class: HandlerClass


class BreakerState(StrEnum):
    """How much a worker gets of what a handler runs."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, kw_only=True)
class BreakerLimits:
    """After how many failures in a row (0: never) it opens, and for how long."""

    failures: int = FAILURES
    cool_off_seconds: float = COOL_OFF_SECONDS
    cool_off_seconds_max: float = COOL_OFF_SECONDS_MAX


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """One breaker; closed while nothing is said of the next try."""

    failures: int = 0  # in a row
    opened_at: datetime | None = None  # for the first time since it was closed
    next_try_at: datetime | None = None
    cool_off_seconds: float = 0.0
    last_error: str = ""
    probe: BatchId | None = None  # the batch of the one step that was let through

    def state(self, now: datetime) -> BreakerState:
        if self.next_try_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.next_try_at else BreakerState.HALF_OPEN

    def is_forgotten(self, now: datetime) -> bool:
        """Whether nothing came of its next try for so long that it counts as closed."""
        return self.next_try_at is not None and now - self.next_try_at >= FORGOTTEN_AFTER

    def lets_one(self, now: datetime, *, under_way: Container[BatchId]) -> bool:
        """Whether a half-open one lets a step through: the one before it must have come back."""
        half_open = self.state(now) is BreakerState.HALF_OPEN
        return half_open and (self.probe is None or self.probe not in under_way)


CLOSED: Final = Breaker()


def answered() -> Breaker:
    """The handler said what became of a step, if only that no retry helps: it does its work."""
    return CLOSED


def failed(breaker: Breaker, limits: BreakerLimits, *, now: datetime, error: str = "") -> Breaker:
    """One more failure, timeout or loss; what comes in while it is open changes nothing."""
    state = breaker.state(now)
    if limits.failures == 0 or state is BreakerState.OPEN:
        return breaker
    failures = breaker.failures + 1
    if state is BreakerState.CLOSED and failures < limits.failures:
        return replace(breaker, failures=failures)
    wanted = breaker.cool_off_seconds * 2 or limits.cool_off_seconds
    seconds = min(wanted, max(limits.cool_off_seconds, limits.cool_off_seconds_max))
    return Breaker(
        failures=failures,
        opened_at=breaker.opened_at or now,
        next_try_at=now + timedelta(seconds=seconds),
        cool_off_seconds=seconds,
        last_error=error,
    )
