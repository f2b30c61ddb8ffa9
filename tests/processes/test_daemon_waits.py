"""A daemon that is started with its database, as by `docker compose up`, waits for it to be ready.

PostgreSQL as a standby whom nobody may ask answers as one that is starting (SQLSTATE 57P03), for as
long as a test likes: until it is promoted.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker_zmq.clock import SystemClock
from tasker_zmq.daemon.daemon import Daemon
from tasker_zmq.daemon.starting import DATABASE_START_SECONDS_MAX
from tasker_zmq.errors import UnreachableError
from tasker_zmq.settings import load
from tasker_zmq.store import schema
from tasker_zmq.store.embedded import halt_server, resume_server
from tasker_zmq.store.provision import database_server
from tests.processes.running import (
    END_SECONDS_MAX,
    PURPOSES,
    Program,
    eventually,
    inherited_variables,
)

pytestmark = pytest.mark.slow

WAITS = "waiting_for=the database to start"


class Starting:
    """A PostgreSQL of a test's own that says that it is starting, until `finish`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._data = folder / "cluster"
        halt_server(folder, at_once=False)
        (self._data / "standby.signal").touch()
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write("hot_standby = off\n")
        resume_server(folder)

    def finish(self) -> None:
        """Let everybody in."""
        (self._data / "promote").touch()
        postmaster = (self._data / "postmaster.pid").read_text().splitlines()[0]
        os.kill(int(postmaster), signal.SIGUSR1)


@pytest.fixture
def starting(short_folder: Path) -> Iterator[Starting]:
    folder = short_folder / "postgres"
    with database_server(None, data_dir=folder, keep=False, durable=False) as found:
        schema.upgrade(found.url)
        yield Starting(folder, found.url)


@pytest.fixture
def daemon(short_folder: Path, starting: Starting) -> Iterator[Program]:
    """One that waits, and would leave as soon as it could begin."""
    endpoints = {f"TASKER_ENDPOINTS_{each.upper()}": "tcp://127.0.0.1:*" for each in PURPOSES}
    program = Program.start(
        "main",
        ("daemon", "--check"),
        variables={**inherited_variables(), **endpoints, "TASKER_DATABASE_URL": starting.url},
        log=short_folder / "daemon.log",
        cwd=short_folder,
    )
    try:
        eventually(lambda: WAITS in program.said, "it waits for the database")
        yield program
    finally:
        program.kill()


def test_a_daemon_waits_while_postgresql_says_that_it_is_starting(
    daemon: Program, starting: Starting
) -> None:
    daemon.check()
    starting.finish()
    assert daemon.process.wait(END_SECONDS_MAX) == 0, daemon.said
    assert daemon.said.count(WAITS) == 1
    assert "all is well" in daemon.said


def test_a_daemon_that_waits_for_its_database_can_be_stopped(daemon: Program) -> None:
    daemon.send_signal(signal.SIGTERM)
    assert daemon.process.wait(END_SECONDS_MAX) == 1
    assert "stopped while waiting for the database to start" in daemon.said


class LeapingClock(SystemClock):
    """Half of the time that a daemon waits passes whenever somebody looks."""

    def __init__(self) -> None:
        self.leaps = 0

    def monotonic(self) -> float:
        self.leaps += 1
        return super().monotonic() + self.leaps * DATABASE_START_SECONDS_MAX / 2


def test_a_daemon_gives_up_on_a_postgresql_that_starts_for_too_long(starting: Starting) -> None:
    settings = load(config=None, environment=None, variables={}, overrides={}).settings
    clock = LeapingClock()
    with pytest.raises(UnreachableError, match="the database does not answer"):
        Daemon(settings, starting.url, clock=clock).start()
    assert clock.leaps > 2


def test_a_daemon_does_not_wait_for_a_postgresql_that_is_not_there() -> None:
    settings = load(config=None, environment=None, variables={}, overrides={}).settings
    clock = LeapingClock()
    nobody = "postgresql+psycopg://someone@127.0.0.1:1/work"
    with pytest.raises(UnreachableError, match="the database does not answer"):
        Daemon(settings, nobody, clock=clock).start()
    assert clock.leaps == 1
