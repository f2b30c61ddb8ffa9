"""What cores used of a worker's credit, and how the shares follow within a few windows."""

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.credit import shares
from tasker_zmq.worker.demand import TURNOVER, WINDOW_SECONDS, Demand

WHOLE = 8


class Sharing:
    """Two cores; each window, those with work use all of their credit, or so much."""

    def __init__(self) -> None:
        self.demands = (Demand(), Demand())
        self.credits = [WHOLE // 2, WHOLE // 2]
        self.now = 0.0

    def window(self, *used: int) -> list[int]:
        for demand, credit, wanted in zip(self.demands, self.credits, used, strict=True):
            demand.turn(self.now)
            steps = min(credit, wanted)
            demand.accept(steps, self.now)
            demand.end(steps)
        wants = [
            demand.wants(credit, whole=WHOLE)
            for demand, credit in zip(self.demands, self.credits, strict=True)
        ]
        self.credits = shares(WHOLE, wants)
        self.now += WINDOW_SECONDS
        return self.credits


def test_credit_goes_to_the_core_that_uses_it_and_comes_back_to_one_that_begins() -> None:
    sharing = Sharing()
    for _ in range(3):
        sharing.window(100, 0)
    assert sharing.credits == [7, 1]
    for _ in range(3):
        sharing.window(100, 100)
    assert sharing.credits == [4, 4]
    for _ in range(4):
        sharing.window(0, 100)
    assert sharing.credits == [1, 7]


def test_a_core_that_sends_one_step_at_a_time_does_not_take_half() -> None:
    sharing = Sharing()
    for _ in range(6):
        sharing.window(100, 1)
    assert sharing.credits == [6, 2]


def test_a_core_whose_steps_end_at_once_is_limited_by_its_credit_all_the_same() -> None:
    demand = Demand()
    for _ in range(TURNOVER):
        demand.accept(2, now=0.0)
        demand.end(2)
        assert demand.in_hand == 0
    assert demand.is_hungry(2)
    assert not demand.is_hungry(TURNOVER)


def test_what_was_used_is_forgotten_after_two_windows() -> None:
    demand = Demand()
    demand.accept(5, now=0.0)
    demand.end(5)
    demand.turn(WINDOW_SECONDS)
    assert demand.wants(8, whole=8) == 6
    demand.turn(2 * WINDOW_SECONDS)
    assert demand.wants(8, whole=8) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 5)), max_size=30), st.integers(1, 50))
def test_nobody_wants_more_than_there_is_nor_less_than_nothing(
    came: list[tuple[int, float]], credit: int
) -> None:
    demand, now = Demand(), 0.0
    for steps, pause in came:
        now += pause
        demand.accept(steps, now)
        assert 0 <= demand.wants(credit, whole=100) <= 100 + sum(each for each, _ in came)
        demand.end(steps)
