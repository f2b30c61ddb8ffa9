"""The simulation is not blind: it finds planted bugs. `make sim-planted` plants every one."""

import pytest

from tests.simulation.database import Database
from tests.simulation.hunt import hunt
from tests.simulation.planted import PLANTED, Planted

PLANTED_MIN = 50
SAMPLE = (
    "acknowledge before commit",
    "publish before commit",
    "no credit check",
    "a forgotten deadline",
    "a loss is charged",
    "the wrong parent's result",
    "a duplicate is applied",
    "a worker forgets its batches",
    "an old epoch writes on",
    "a takeover before the lease is over",
)


@pytest.mark.parametrize(
    "planted", [each for each in PLANTED if each.name in SAMPLE], ids=lambda each: each.name
)
def test_a_planted_bug_is_found(simulated_database: Database, planted: Planted) -> None:
    assert hunt(planted, simulated_database, seeds=20) is not None


def test_there_are_many_bugs_to_plant_and_each_has_a_name_of_its_own() -> None:
    names = {planted.name for planted in PLANTED}
    assert len(names) == len(PLANTED) >= PLANTED_MIN
    assert names >= set(SAMPLE)
