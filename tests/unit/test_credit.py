"""A worker's credit, shared out among the cores that it has a link to."""

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.credit import granted_credit, shares, whole_credit

wholes = st.integers(1, 200)
wants = st.lists(st.integers(0, 300), max_size=8)


@given(wholes, wants)
def test_no_more_is_given_than_there_is_and_everyone_has_one(whole: int, wanted: list[int]) -> None:
    given_ = shares(whole, wanted)
    assert len(given_) == len(wanted)
    assert sum(given_) == (max(whole, len(wanted)) if wanted else 0)
    assert all(each >= 1 for each in given_)


@given(wholes, wants)
def test_nobody_gets_more_than_is_wanted_while_others_want_more(
    whole: int, wanted: list[int]
) -> None:
    given_ = shares(whole, wanted)
    if any(each < want for each, want in zip(given_, wanted, strict=True)):
        assert all(each <= max(1, want) for each, want in zip(given_, wanted, strict=True))


@given(wholes, wants)
def test_who_gets_less_than_wanted_has_as_much_as_anyone(whole: int, wanted: list[int]) -> None:
    given_ = shares(whole, wanted)
    for each, want in zip(given_, wanted, strict=True):
        if each < want:
            assert each >= max(given_) - 1


def test_a_busy_core_gets_what_idle_ones_leave() -> None:
    assert shares(8, [0, 100, 0]) == [1, 6, 1]
    assert shares(8, [100, 100]) == [4, 4]
    assert shares(8, [3, 100]) == [3, 5]
    assert shares(8, [0, 0, 0]) == [3, 3, 2]
    assert shares(8, []) == []
    assert shares(2, [100, 100, 100]) == [1, 1, 1]


@given(st.integers(1, 100), st.floats(1, 10), st.integers(-5, 2_000) | st.none())
def test_what_is_granted_is_part_of_the_whole(
    concurrency: int, factor: float, granted: int | None
) -> None:
    whole = whole_credit(concurrency, factor)
    assert 1 <= granted_credit(whole, granted) <= whole
    assert granted_credit(whole, None) == whole
