"""Ctrl-C and SIGTERM as a word that is heard between two steps, never in the middle of one.

An exception out of a signal handler could fall between the start of a process and the note that it
was started; then nobody would end it.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tasker_zmq.clock import Clock

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS: Final = 0.05
LEFT_ALONE_FACTOR: Final = 20
LEFT_ALONE_SECONDS_MAX: Final = 0.5  # an answer that took long may be one that did not come
SIGNAL_EXIT: Final = 128  # plus the signal's number, as shells have it


class Interruption:
    """Whether someone wants us to stop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: list[int] = []  # no lock: a handler must not wait for what it interrupted

    def note(self, number: int, _frame: FrameType | None) -> None:
        self._seen.append(number)

    @property
    def is_wanted(self) -> bool:
        return bool(self._seen)

    def check(self) -> None:
        """Raise SystemExit with the shell's code for the signal that came, if one came."""
        if self._seen:
            raise SystemExit(SIGNAL_EXIT + self._seen[0])

    def wait_until(self, ready: Callable[[], bool], *, seconds_max: float) -> bool:
        """Ask again and again; whether it was ready in time. Raises SystemExit on a signal."""
        until = self._clock.monotonic() + seconds_max
        while True:
            self.check()
            asked_at = self._clock.monotonic()
            if ready():
                return True
            answered_at = self._clock.monotonic()
            if answered_at >= until:
                return False
            # Whoever is asked a long question is left alone for longer.
            left_alone = LEFT_ALONE_FACTOR * (answered_at - asked_at)
            time.sleep(min(max(LOOK_SECONDS, left_alone), LEFT_ALONE_SECONDS_MAX))


@contextmanager
def interruptible(clock: Clock) -> Iterator[Interruption]:
    """Listen to the signals inside, and put things back as they were afterwards."""
    interruption = Interruption(clock)
    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if number != signal.SIGHUP or former[number] != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, interruption.note)
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
