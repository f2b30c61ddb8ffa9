"""Durations and sizes: what people write is what is meant."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.settings.units import format_duration, format_size, parse_duration, parse_size

SECOND = Decimal(1)


@given(milliseconds=st.integers(0, 10**12))
def test_a_duration_that_was_written_is_read_back_exactly(milliseconds: int) -> None:
    seconds = Decimal(milliseconds) / 1000
    assert parse_duration(format_duration(seconds), plain=SECOND) == seconds


@given(count=st.integers(0, 10**14))
def test_a_size_that_was_written_is_read_back_exactly(count: int) -> None:
    assert parse_size(format_size(count)) == count


@given(text=st.text(max_size=40))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parsed in (parse_duration(text, plain=SECOND), parse_size(text)):
        assert parsed is None or parsed >= 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", "30"), ("500ms", "0.5"), ("5m", "300"), ("1.5 h", "5400"), ("2d", "172800")],
)
def test_each_unit_of_time_counts_as_it_should(text: str, seconds: str) -> None:
    assert parse_duration(text, plain=SECOND) == Decimal(seconds)


@pytest.mark.parametrize(
    ("text", "count"), [("1MiB", 1 << 20), ("64KiB", 65_536), ("2 MB", 2_000_000), ("7", 7)]
)
def test_each_unit_of_size_counts_as_it_should(text: str, count: int) -> None:
    assert parse_size(text) == count


def test_a_plain_number_has_the_unit_it_is_given() -> None:
    assert parse_duration("250", plain=Decimal("0.001")) == Decimal("0.25")


@pytest.mark.parametrize("text", ["", "-5s", "5 parsecs", "s", "1e3", "nan", "٣s", "1mib"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert parse_duration(text, plain=SECOND) is None
    assert parse_size(text) is None
