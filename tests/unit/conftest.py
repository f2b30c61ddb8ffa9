"""What tests of the command line share: a daemon of their own, and a database with a history."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tasker_zmq.clock import SystemClock
from tasker_zmq.protocol.commands import Command
from tasker_zmq.store.connection import ConnectionLimits, create
from tasker_zmq.testing import ManualClock
from tests.databases import database
from tests.store.seeding import Cast, told
from tests.unit.shell import Answer, OwnDaemon


@dataclass(frozen=True)
class Seeded:
    """A database that holds a history, and who is who in it."""

    url: str
    cast: Cast
    charge: int  # the step that failed: of the one dead letter


@pytest.fixture(scope="module")
def seeded(
    request: pytest.FixtureRequest, server_url: str, template_database: str
) -> Iterator[Seeded]:
    name = f"tasker_tests_{os.getpid()}_{request.path.stem}"
    with database(server_url, name, template=template_database) as url:
        engine = create(url, purpose="tests", limits=ConnectionLimits())
        with engine.begin() as connection:
            cast = told(connection, ManualClock(SystemClock().now()))
            charge = cast.story.step(cast.failed, "charge")
        engine.dispose()
        yield Seeded(url, cast, charge)


@pytest.fixture
def daemon(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnDaemon]:
    """The configured daemon; the first of a module's `answers` is what it does."""

    def by_the_newest(command: Command) -> object:
        return answers[0](command)

    with OwnDaemon(by_the_newest) as running:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", running.endpoint)
        yield running
