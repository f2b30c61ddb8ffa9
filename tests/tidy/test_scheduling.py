"""That the order of tests is about tests that exist."""

from pathlib import Path

import pytest

from tests.scheduling import LONGEST, SHORTEST, SINGLE, STAGED, rank_of, unit_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [*LONGEST, *SHORTEST, *SINGLE])
def test_what_is_ordered_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_tests_of_one_stage_stay_together_and_other_tests_of_processes_do_not() -> None:
    chain, diamond = (f"{STAGED}::test_a_{name}" for name in ("chain", "diamond"))
    assert unit_of(f"{chain}[thread-tcp]") == unit_of(f"{diamond}[thread-tcp]")
    assert unit_of(f"{chain}[thread-tcp]") != unit_of(f"{chain}[thread-ipc]")
    assert unit_of("tests/processes/test_a.py::test_a") != unit_of("tests/processes/test_a.py::b")
    assert unit_of("tests/store/test_a.py::test_a") == unit_of("tests/store/test_a.py::test_b[1]")


def test_what_takes_long_begins_first_and_what_is_short_last() -> None:
    order = [f"{LONGEST[0]}::test_a", "tests/pipeline/test_a.py::test_a", "tests/tidy/test_a.py::b"]
    assert [rank_of(each) for each in order] == [0, 1, 2]
