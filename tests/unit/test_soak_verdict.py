"""The verdicts of `make soak` see what grows, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench.soak import Sample, judge

STEADY = Sample(
    seconds=10.0,
    done=200,
    open=2,
    p50_ms=10.0,
    p95_ms=15.0,
    daemon_mib=80.0,
    workers_mib=70.0,
    dead={"tasker_tasks": 30_000, "tasker_cores": 100},
    bytes=1,
    xmin_age_seconds=0.0,
)
SAMPLES = 40


def missed(found: Sequence[Sample]) -> list[str]:
    return [each.what for each in judge(found, rate=20.0) if not each.met]


def grown(**more: object) -> list[Sample]:
    """Steady for three quarters, then otherwise."""
    return [STEADY] * 30 + [replace(STEADY, **more)] * 10  # type: ignore[arg-type]


def test_what_stays_the_same_meets_all() -> None:
    assert missed([STEADY] * SAMPLES) == []


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"daemon_mib": 89.0}, "memory of the daemon"),
        ({"workers_mib": 78.0}, "memory of the workers"),
        ({"open": 41}, "open tasks"),
        ({"p50_ms": 15.1}, "latency p50"),
        ({"p95_ms": 22.6}, "latency p95"),
        ({"dead": {"tasker_tasks": 61_000}}, "most dead rows"),
    ],
)
def test_what_grows_is_missed(more: dict[str, object], what: str) -> None:
    assert missed(grown(**more)) == [what]


def test_the_first_quarter_warms_up_and_does_not_count() -> None:
    cold = replace(STEADY, daemon_mib=40.0, p50_ms=1.0, p95_ms=1.0)
    assert missed([cold] * 10 + [STEADY] * 30) == []


def test_what_shrinks_is_no_fault() -> None:
    assert missed(grown(daemon_mib=40.0, p50_ms=1.0, p95_ms=2.0, dead={}, open=0)) == []


def test_few_dead_rows_do_not_matter_however_fast_they_became_more() -> None:
    few = [replace(STEADY, dead={"tasker_tasks": 10})] * 30
    assert missed([*few, *[replace(STEADY, dead={"tasker_tasks": 9_000})] * 10]) == []
