"""A seed tells the whole story: it can be told again."""

import pytest

from tests.simulation.database import Database
from tests.simulation.options import CORE_FAULTS, FAULTS, Legacy, draw, smaller
from tests.simulation.simulation import simulate
from tests.simulation.timeline import Timeline

REPLAYED = (2, 11, 77, 46, 37)  # one that leaves results on disk, one with three cores


@pytest.mark.parametrize("seed", REPLAYED)
def test_a_seed_replays_to_the_same_trace(simulated_database: Database, seed: int) -> None:
    first = simulate(draw(seed), simulated_database)
    second = simulate(draw(seed), simulated_database)
    assert first.trace == second.trace
    assert first.digest == second.digest
    assert simulate(draw(seed + 1), simulated_database).digest != first.digest


def test_every_kind_of_misfortune_is_drawn_by_some_seed() -> None:
    every = {*FAULTS, *CORE_FAULTS}
    assert {kind for seed in range(100) for kind in draw(seed).rates} == every


def test_half_of_the_seeds_have_several_cores() -> None:
    drawn = [draw(seed).cores for seed in range(1, 301)]
    assert set(drawn) == {1, 2, 3}
    assert 120 <= drawn.count(1) <= 180


def test_options_say_everything_that_the_seed_decided() -> None:
    options = draw(5)
    shown = options.shown()
    assert "seed 5" in shown
    assert all(kind in shown for kind in options.rates)
    assert all(f"  {step.name} after" in shown for step in options.steps)


def test_smaller_options_have_less_in_them() -> None:
    options = draw(6)
    for each in smaller(options):
        assert (
            each.cores < options.cores
            or each.by_sql < options.by_sql
            or len(each.rates) < len(options.rates)
            or each.tasks < options.tasks
            or len(each.workers) < len(options.workers)
            or len(each.steps) < len(options.steps)
            or each.stormy_seconds < options.stormy_seconds
            or len(each.durable) < len(options.durable)
            or (each.legacy, options.legacy) == (Legacy.NONE, Legacy.NEEDED)
        )


def test_deeds_are_done_in_the_order_in_which_they_are_due() -> None:
    timeline, done = Timeline(), []
    timeline.at(2.0, lambda: done.append("late"))
    timeline.at(1.0, lambda: done.append("first"))
    timeline.at(1.0, lambda: done.append("second"))
    timeline.run_until(1.5)
    assert (done, timeline.now) == (["first", "second"], 1.5)
    timeline.run_until(3.0)
    assert done == ["first", "second", "late"]
