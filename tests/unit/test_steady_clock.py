"""The steady clock: follows the wall clock, and none of its jumps."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.clock import SLEW, SteadyClock
from tasker_zmq.testing import ManualClock


class JumpingClock:
    """Time passes; the wall clock is set by hand beside that."""

    def __init__(self) -> None:
        self.time = ManualClock()
        self.set_by = timedelta()

    def now(self) -> datetime:
        return self.time.now() + self.set_by

    def monotonic(self) -> float:
        return self.time.monotonic()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-200_000, 200_000)), max_size=20))
def test_whatever_the_wall_clock_is_set_to_time_passes_as_it_passes(
    jumps: list[tuple[float, float]],
) -> None:
    wall = JumpingClock()
    steady = SteadyClock(wall)
    former = steady.now()
    for seconds, jump in jumps:
        wall.time.advance(seconds)
        wall.set_by += timedelta(seconds=jump)
        passed = (steady.now() - former).total_seconds()
        assert abs(passed - seconds) <= SLEW * seconds + 1e-4
        former = steady.now()


def test_a_wall_clock_that_was_put_right_is_followed_in_the_end() -> None:
    wall = JumpingClock()
    steady = SteadyClock(wall)
    wall.set_by = timedelta(seconds=5)
    for _ in range(100):
        wall.time.advance(6)
        steady.now()
    assert abs((steady.now() - wall.now()).total_seconds()) < 1e-3
