"""How much of its credit a core has used lately, and what it could use."""

from typing import Final

WINDOW_SECONDS: Final = 2.0  # what was used is remembered for one to two of these
TURNOVER: Final = 4  # so many times its credit in one window: what limits it is the credit


class Demand:
    """The peak of steps in hand and how many came, of this window and the one before."""

    def __init__(self) -> None:
        self.in_hand = 0
        self._peaks = (0, 0)
        self._came = (0, 0)
        self._window_ends = 0.0

    def accept(self, steps: int, now: float) -> None:
        """So many steps have come."""
        self.turn(now)
        self.in_hand += steps
        self._peaks = (max(self._peaks[0], self.in_hand), self._peaks[1])
        self._came = (self._came[0] + steps, self._came[1])

    def end(self, steps: int) -> None:
        """So many steps have ended, or gone elsewhere."""
        self.in_hand = max(0, self.in_hand - steps)

    def turn(self, now: float) -> None:
        """Begin another window when it is time."""
        if now < self._window_ends:
            return
        latest = now < self._window_ends + WINDOW_SECONDS  # else nothing came for a whole window
        self._peaks = (self.in_hand, self._peaks[0] if latest else self.in_hand)
        self._came = (0, self._came[0] if latest else 0)
        self._window_ends = now + WINDOW_SECONDS

    def is_hungry(self, credit: int) -> bool:
        """Whether it would have used more than this credit."""
        return max(self._peaks) >= credit or max(self._came) >= TURNOVER * credit

    def wants(self, credit: int, *, whole: int) -> int:
        """What to give it: all that there is when it is hungry, else a little more than it used."""
        if self.is_hungry(credit):
            return whole
        peak = max(self._peaks)
        return peak + 1 if peak else 0
