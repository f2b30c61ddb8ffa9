"""A clock that moves only when it is told to."""

from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 1, 5, 12, tzinfo=UTC)


class ManualClock:
    """Stands still until `advance`; wall clock and monotonic clock move together."""

    def __init__(self, now: datetime = BEGINNING) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> datetime:
        """Go on by `seconds`; returns the new time."""
        if seconds < 0:
            raise ValueError(f"time goes on; wanted 0 s or more, found {seconds}")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self._now
