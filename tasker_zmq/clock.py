"""Time, ids and chance, made here and handed down: nothing else reads a clock or rolls dice."""

import os
import random
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Final, Protocol

SLEW: Final = 0.01


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads the wall clock

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - the one place that reads it


class SteadyClock:
    """The wall clock without its jumps, for a process that concludes from time that passed.

    Follows the machine's clock, but never by more than 1 % of the time that passed meanwhile: a
    clock that is set a day ahead ends no lease, and one that is set back holds nothing up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock.monotonic()
        self._ahead = clock.now().timestamp() - self._looked_at

    def now(self) -> datetime:
        with self._lock:
            moment = self._clock.monotonic()
            drift = self._clock.now().timestamp() - moment - self._ahead
            allowed = (moment - self._looked_at) * SLEW
            self._ahead += min(max(drift, -allowed), allowed)
            self._looked_at = moment
            return datetime.fromtimestamp(self._ahead + moment, UTC)

    def monotonic(self) -> float:
        return self._clock.monotonic()


class IdMaker:
    """Makes UUIDv7 strings: they sort by the time at which they were made."""

    def __init__(self, clock: Clock, dice: random.Random) -> None:
        self._clock = clock
        self._dice = dice

    def uuid7(self) -> str:
        milliseconds = int(self._clock.now().timestamp() * 1000)
        value = (milliseconds & ((1 << 48) - 1)) << 80
        value |= 0x7 << 76
        value |= self._dice.getrandbits(12) << 64
        value |= 0b10 << 62
        value |= self._dice.getrandbits(62)
        return str(uuid.UUID(int=value))


def uuid7_floor(moment: datetime) -> str:
    """Not above any UUIDv7 that was made at that moment or later."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return str(uuid.UUID(int=(milliseconds & ((1 << 48) - 1)) << 80))


def system_dice() -> random.Random:
    """Dice seeded by the operating system."""
    return random.Random(int.from_bytes(os.urandom(16)))  # noqa: S311 - jitter, not secrets
