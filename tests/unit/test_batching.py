"""How steps are packed, and how long a batch may take."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.batching import batch_timeout_seconds, pack

SIZES = st.lists(st.integers(0, 50), max_size=30)


def packed(sizes: list[int], *, steps_max: int = 10, bytes_max: int = 100) -> list[list[int]]:
    return pack(sizes, size=lambda size: size, steps_max=steps_max, bytes_max=bytes_max)


def test_a_batch_ends_at_its_number_of_steps() -> None:
    assert packed([1] * 5, steps_max=2) == [[1, 1], [1, 1], [1]]


def test_a_batch_ends_before_the_step_that_would_not_fit() -> None:
    assert packed([60, 40, 1, 99, 2]) == [[60, 40], [1, 99], [2]]


def test_a_step_that_fits_nowhere_stands_alone() -> None:
    assert packed([1, 500, 1]) == [[1], [500], [1]]


def test_no_steps_make_no_batch() -> None:
    assert packed([]) == []


@given(SIZES, st.integers(1, 6), st.integers(1, 80))
def test_every_step_is_packed_once_in_order_and_within_the_limits(
    sizes: list[int], steps_max: int, bytes_max: int
) -> None:
    batches = packed(sizes, steps_max=steps_max, bytes_max=bytes_max)
    assert [size for batch in batches for size in batch] == sizes
    for batch in batches:
        assert 1 <= len(batch) <= steps_max
        assert sum(batch) <= bytes_max or len(batch) == 1


@given(SIZES, st.integers(1, 6), st.integers(1, 80))
def test_no_batch_ends_while_the_next_step_would_fit(
    sizes: list[int], steps_max: int, bytes_max: int
) -> None:
    batches = packed(sizes, steps_max=steps_max, bytes_max=bytes_max)
    for batch, following in pairwise(batches):
        assert len(batch) == steps_max or sum(batch) + following[0] > bytes_max


def timeout(*, step: float = 10.0, ahead: int = 1, concurrency: int = 1, grace: float = 0.0) -> int:
    return batch_timeout_seconds(
        step_timeout_seconds=step,
        steps_ahead=ahead,
        concurrency=concurrency,
        grace_seconds=grace,
    )


def test_steps_that_wait_for_a_slot_get_the_time_of_those_before_them() -> None:
    assert timeout(ahead=1, concurrency=4) == 10
    assert timeout(ahead=4, concurrency=4) == 10
    assert timeout(ahead=5, concurrency=4) == 20
    assert timeout(ahead=9, concurrency=4, grace=5) == 35


def test_seconds_are_rounded_up_and_no_batch_gets_none() -> None:
    assert timeout(step=0.1, grace=0.05) == 1
    assert timeout(ahead=0) == 10
    assert timeout(concurrency=0) == 10


@given(st.floats(0.1, 1e5), st.integers(0, 500), st.integers(1, 64), st.floats(0, 100))
def test_a_batch_has_time_for_all_its_rounds(
    step: float, ahead: int, concurrency: int, grace: float
) -> None:
    found = timeout(step=step, ahead=ahead, concurrency=concurrency, grace=grace)
    assert found >= step * math.ceil(ahead / concurrency) + grace
    assert found >= timeout(step=step, ahead=ahead, concurrency=concurrency + 1, grace=grace)
