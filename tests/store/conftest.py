"""What tests of the store share."""

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tasker_zmq.store.connection import ConnectionLimits, create
from tests.databases import database


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, server_url: str, template_database: str
) -> Iterator[Engine]:
    """One database for all tests of a module: each of them rolls back what it told."""
    name = f"tasker_tests_{os.getpid()}_{request.module.__name__.rpartition('.')[2]}"
    with database(server_url, name, template=template_database) as url:
        engine = create(url, purpose="tests", limits=ConnectionLimits(), pool_size=2)
        yield engine
        engine.dispose()
