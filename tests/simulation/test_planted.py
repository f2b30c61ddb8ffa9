"""The simulation is not blind: it finds planted bugs. `make sim-planted` plants every one."""

import pytest

from tests.simulation.database import Database
from tests.simulation.hunt import hunt
from tests.simulation.planted import PLANTED, Planted

PLANTED_MIN = 50
SAMPLE = {  # each with the seed that found it the last time: the hunt begins there
    "acknowledge before commit": 1,
    "publish before commit": 1,
    "no credit check": 3,
    "a forgotten deadline": 1,
    "a loss is charged": 2,
    "the wrong parent's result": 3,
    "a duplicate is applied": 3,
    "a worker forgets its batches": 1,
    "an old epoch writes on": 1,
    "a takeover before the lease is over": 5,
}
SEEDS = 20


@pytest.mark.parametrize(
    "planted", [each for each in PLANTED if each.name in SAMPLE], ids=lambda each: each.name
)
def test_a_planted_bug_is_found(simulated_database: Database, planted: Planted) -> None:
    first = SAMPLE[planted.name]
    assert hunt(planted, simulated_database, seeds=range(first, first + SEEDS)) is not None


def test_every_bug_can_be_planted_in_the_code_as_it_is() -> None:
    for planted in PLANTED:
        with planted.plant():
            pass


def test_there_are_many_bugs_to_plant_and_each_has_a_name_of_its_own() -> None:
    names = {planted.name for planted in PLANTED}
    assert len(names) == len(PLANTED) >= PLANTED_MIN
    assert names >= SAMPLE.keys()
