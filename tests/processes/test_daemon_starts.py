"""A daemon that cannot start as it should refuses, says why, and says what to do."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasker_zmq.store import schema
from tests import databases
from tests.forking import RUN
from tests.processes.conftest import StartDaemon
from tests.processes.rig import IMPATIENT, listens
from tests.processes.running import (
    END_SECONDS_MAX,
    PURPOSES,
    Program,
    RunningDaemon,
    eventually,
    inherited_variables,
)

pytestmark = pytest.mark.slow

ANY_PORT = {f"TASKER_ENDPOINTS_{each.upper()}": "tcp://127.0.0.1:*" for each in PURPOSES}
WARNING_OF_INSECURE = "warning: --insecure: whoever reaches these sockets may run and read work"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of this machine that somebody else uses."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def variables_for(database_url: str) -> dict[str, str]:
    return {**inherited_variables(), **ANY_PORT, "TASKER_DATABASE_URL": database_url}


def check(folder: Path, database_url: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """How `tasker-zmq daemon --check` ended, and what it said."""
    finished = subprocess.run(
        [sys.executable, "-c", RUN.format(module="main"), *arguments, "daemon", "--check"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**variables_for(database_url), **IMPATIENT, **variables},
    )
    assert "Traceback" not in finished.stdout
    return finished.returncode, finished.stdout


def test_a_second_daemon_of_one_name_is_refused_and_the_first_works_on(
    daemon: StartDaemon, short_folder: Path
) -> None:
    first = daemon(variables=IMPATIENT)
    code, said = check(short_folder, first.database_url)
    assert code == 4
    assert said.count("waiting_for=the core's lease") == 1
    assert "another daemon runs as core 'core-1' on this database; stop it, or start" in said
    assert "--core-id" in said
    with first.client() as client:
        assert client.ask("HealthCheck")["status"] == "ok"


LEASE = "UPDATE tasker_cores SET lease_expires_at = now() + interval '{}'"


Second = Callable[[RunningDaemon], Program]


@pytest.fixture
def second(short_folder: Path) -> Iterator[Second]:
    """Start another daemon of the same name, which ends as soon as it could begin."""
    with ExitStack() as stack:

        def start(first: RunningDaemon) -> Program:
            program = Program.start(
                "main",
                ("daemon", "--check"),
                variables=variables_for(first.database_url),
                log=short_folder / "second.log",
                cwd=short_folder,
            )
            stack.callback(program.kill)
            return program

        yield start


def test_the_name_of_a_killed_daemon_is_free_at_once_whatever_its_lease(
    daemon: StartDaemon, second: Second
) -> None:
    first = daemon()
    first.kill()
    databases.execute(first.database_url, LEASE.format("1 hour"))
    after = second(first)
    assert after.process.wait(END_SECONDS_MAX) == 0, after.said
    assert "epoch=2" in after.said


def test_a_daemon_waits_for_the_lease_of_one_that_lives_under_its_name(
    daemon: StartDaemon, second: Second
) -> None:
    first = daemon()
    first.process.send_signal(signal.SIGSTOP)  # it lives, and renews nothing
    databases.execute(first.database_url, LEASE.format("1 hour"))
    after = second(first)
    eventually(lambda: "waiting_for=the core's lease" in after.said, "it waits for the lease")
    databases.execute(first.database_url, LEASE.format("-1 second"))
    assert after.process.wait(END_SECONDS_MAX) == 0, after.said
    assert "epoch=2" in after.said
    first.kill()


def test_a_bind_that_others_can_reach_is_refused_with_the_reason(
    database_url: str, short_folder: Path
) -> None:
    code, said = check(short_folder, database_url, TASKER_ENDPOINTS_STEPS="tcp://0.0.0.0:*")
    assert code == 2
    assert "'endpoints.steps' would bind tcp://0.0.0.0:*, which other machines may reach" in said
    assert "anyone who can reach it may run and read work" in said
    assert "give --insecure" in said


def test_insecure_allows_a_bind_that_others_can_reach_and_warns(
    database_url: str, short_folder: Path
) -> None:
    code, said = check(
        short_folder,
        database_url,
        TASKER_ENDPOINTS_STEPS="tcp://0.0.0.0:*",
        TASKER_ENDPOINTS_INSECURE="true",
    )
    assert code == 0, said
    assert "steps: tcp://0.0.0.0:" in said
    assert WARNING_OF_INSECURE in said


def test_a_port_that_is_taken_is_named_with_the_way_out(
    database_url: str, short_folder: Path, taken_port: int
) -> None:
    endpoint = f"tcp://127.0.0.1:{taken_port}"
    code, said = check(short_folder, database_url, TASKER_ENDPOINTS_COMMANDS=endpoint)
    assert code == 4
    assert f"cannot bind commands to {endpoint}: Address already in use" in said
    assert "stop what uses it, or set endpoints.commands to another address" in said


def test_a_socket_path_that_another_daemon_has_is_not_stolen(
    daemon: StartDaemon, short_folder: Path
) -> None:
    first = daemon(transport="ipc")
    path = first.endpoints["steps"]
    code, said = check(
        short_folder, first.database_url, TASKER_ENDPOINTS_STEPS=path, TASKER_CORE_ID="core-2"
    )
    assert code == 4
    assert f"cannot bind {path}: another process has it" in said
    assert listens(path)


def test_an_empty_database_is_refused_with_the_command_that_fills_it(
    empty_database_url: str, short_folder: Path
) -> None:
    code, said = check(short_folder, empty_database_url)
    assert code == 1
    assert "the database has no tasker-zmq schema" in said
    assert "run `tasker-zmq db upgrade`" in said


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("0001", "the database's schema is 0001, older than"),
        ("9999", "the database's schema is 9999, which this release does not know"),
    ],
)
def test_a_schema_of_another_release_is_refused_with_what_to_do(
    database_url: str, short_folder: Path, revision: str, sentence: str
) -> None:
    statement = f"UPDATE alembic_version SET version_num = '{revision}'"  # noqa: S608 - ours
    databases.execute(database_url, statement)
    code, said = check(short_folder, database_url)
    assert code == 1
    assert sentence in said
    older = revision < schema.wanted_revision()
    assert ("run `tasker-zmq db upgrade`" in said) is older
    assert ("run the newer tasker-zmq that migrated it" in said) is not older


def test_an_unknown_setting_is_refused_with_the_nearest_one(
    database_url: str, short_folder: Path
) -> None:
    file = short_folder / "settings.yaml"
    file.write_text("dispatch:\n  batchsize: 3\n", encoding="utf-8")
    code, said = check(short_folder, database_url, "--config", str(file))
    assert code == 2
    assert f"unknown setting 'dispatch.batchsize' in {file}:2" in said
    assert "did you mean 'dispatch.batch_size'?" in said


def test_a_database_that_is_not_there_is_named_without_its_password(short_folder: Path) -> None:
    code, said = check(short_folder, "postgresql://someone:secret@127.0.0.1:1/work")
    assert code == 4
    assert "the database does not answer" in said
    assert "TASKER_DATABASE_URL" in said
    assert "secret" not in said
