"""What every test may ask for: a migrated database of its own, an engine on it, a manual clock."""

import gc
import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from tasker_zmq.store import connection, schema
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.testing import ManualClock
from tests import databases, scheduling

# `ci` tries the same examples each time, so that a change is judged by what it changed; `search`
# looks for new ones. A failure prints what makes it happen again. No deadlines: nothing is timed.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=25)
settings.register_profile(
    "search",
    deadline=None,
    print_blob=True,
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

CHOICE = pytest.StashKey[databases.Choice]()
_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CHOICE] = databases.choose(os.environ)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several testers
        items.sort(key=lambda each: scheduling.rank_of(each.nodeid))


def pytest_collection_finish() -> None:
    """All that was imported and collected stays: to look through it again and again costs time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Units:
    return scheduling.Units(config, log)


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.stash[CHOICE]}"


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database on the server that was chosen, from which others are made."""
    with databases.running(request.config.stash[CHOICE]) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(server_url: str) -> Iterator[str]:
    """The name of a migrated database without rows and without connections, to be copied."""
    name = f"tasker_tests_{os.getpid()}_template"
    with databases.database(server_url, name, template=None) as url:
        schema.upgrade(url)
        yield name


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = f"tasker_tests_{os.getpid()}_{next(_numbers)}"
    with databases.database(server_url, name, template=template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A database of this test's own without our schema."""
    name = f"tasker_tests_{os.getpid()}_{next(_numbers)}"
    with databases.database(server_url, name, template=None) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine as the daemon makes it, on this test's own database."""
    made = connection.create(database_url, purpose="tests", limits=ConnectionLimits(), pool_size=5)
    yield made
    made.dispose()


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands still until it is told to go on."""
    return ManualClock()
