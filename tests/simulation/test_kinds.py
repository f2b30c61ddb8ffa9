"""What is drawn beside the usual workers is there, and does what it is drawn for."""

import re
from typing import Any

import pytest

from tests.simulation.database import Database
from tests.simulation.options import Legacy, draw
from tests.simulation.planted import ON_DISK
from tests.simulation.run import report
from tests.simulation.simulation import simulate

SEEDS = range(1, 7)


def told(database: Database, word: str, **fixed: Any) -> bool:
    """Whether the trace of one of some storms, in which nothing was broken, has this in it."""
    for seed in SEEDS:
        outcome = simulate(draw(seed, **fixed), database)
        assert outcome.violation is None, report(outcome)
        if any(re.search(word, line) for line in outcome.trace):
            return True
    return False


def test_processes_leave_results_on_disk(simulated_database: Database) -> None:
    crashes = {"crash_before_send": 0.15}
    assert told(simulated_database, r"[1-9]\d* results on disk", rates=crashes, **ON_DISK)


def test_a_second_process_refuses_an_outbox_in_use(simulated_database: Database) -> None:
    assert told(simulated_database, "refuses to start", rates={"worker_pause": 0.4}, **ON_DISK)


@pytest.mark.parametrize("kind", [Legacy.BESIDE, Legacy.NEEDED])
def test_a_worker_without_a_session_runs_steps(simulated_database: Database, kind: Legacy) -> None:
    assert told(simulated_database, "runs legacy", legacy=kind)
