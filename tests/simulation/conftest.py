"""One database for all simulations of a pytest process."""

import os
from collections.abc import Iterator

import pytest

from tests import databases
from tests.simulation.database import Database


@pytest.fixture(scope="session")
def simulated_database(server_url: str, template_database: str) -> Iterator[Database]:
    name = f"tasker_tests_{os.getpid()}_simulation"
    with databases.database(server_url, name, template=template_database) as url:
        database = Database(url)
        yield database
        database.close()
