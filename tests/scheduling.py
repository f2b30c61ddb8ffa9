"""Which tests stay on one tester, and which begin first, when there are several testers.

What is prepared once for a module would be prepared by each tester, if its tests were dealt out one
by one. And what takes long must not be what the last tester is left with.
"""

import re
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

# One daemon and one worker for all tests of a module with the same parameter.
STAGED: Final = "tests/processes/test_workers_executors.py"
# A test at a time: each has its own processes, or its own virtual days.
SINGLE: Final = ("tests/processes/", "tests/simulation/", "tests/worker/")
LONGEST: Final = (
    "tests/processes/test_chaos.py",
    "tests/processes/test_readme.py",
    "tests/processes/test_demo.py",
    STAGED,
    "tests/unit/test_templates_graph.py",
    "tests/unit/test_codec.py",
    "tests/store/test_plans.py",
    "tests/store/test_migrations.py",
    "tests/simulation/test_planted.py",
)
SHORTEST: Final = ("tests/unit/", "tests/tidy/", "tests/conformance/")
_PARAMETER = re.compile(r"\[([a-z]+-[a-z]+)\]$")


def unit_of(nodeid: str) -> str:
    """What is given to one tester as a whole."""
    module = nodeid.partition("::")[0]
    if module == STAGED:
        found = _PARAMETER.search(nodeid)
        return f"{module}[{found[1]}]" if found else module
    return nodeid if nodeid.startswith(SINGLE) else module


def rank_of(nodeid: str) -> int:
    """What has the smallest begins first; among equals chance decides."""
    if nodeid.startswith(LONGEST):
        return 0
    return 2 if nodeid.startswith(SHORTEST) else 1


class Units(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """xdist's own groups are without effect under pytest 9.2, which builds node ids anew."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # our order, not the number of tests

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
