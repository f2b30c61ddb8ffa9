"""That the factories of real processes do what the other tests rely on."""

import os
import signal
from pathlib import Path

import pytest

from tests import forking
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.running import END_SECONDS_MAX, Program, eventually, inherited_variables

pytestmark = pytest.mark.slow

DOUBLING = """
from tasker_zmq import step, workflow

@step
def double(number):
    return number * 2

doubling = workflow("tests/doubling@1.0.0", double)
"""


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_worker_runs_a_task_for_a_daemon(
    daemon: StartDaemon, worker: StartWorker, transport: str
) -> None:
    running = daemon(transport=transport)
    worker(running, DOUBLING)
    with running.client() as client:
        task_id = client.submit("tests/doubling@1.0.0", {"number": 21})
    task = running.await_task(task_id)
    assert [each["results"] for each in task["steps"]] == [42]


def test_a_daemon_that_was_killed_starts_again_at_its_endpoints(daemon: StartDaemon) -> None:
    first = daemon(variables={"TASKER_HEARTBEAT_CORE_LEASE_SECONDS": "500ms"})
    first.kill()
    assert daemon().endpoints == first.endpoints


@pytest.mark.parametrize("fresh", ["", "1"], ids=["forked", "fresh"])
def test_a_program_is_a_process_with_its_own_folder_variables_signals_and_exit_code(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch, fresh: str
) -> None:
    """However it is started: by exec, or by a fork of a process that has imported it."""
    monkeypatch.setenv(forking.FRESH, fresh)
    (short_folder / "handlers.py").write_text("from tasker_zmq import step\n@step\ndef a(): ...\n")

    def start(*arguments: str) -> Program:
        return Program.start(
            "worker",
            arguments,
            variables={**inherited_variables(), "TASKER_COMMANDS": f"ipc://{short_folder}/nobody"},
            log=short_folder / "program.log",
            cwd=short_folder,
        )

    refused = start("handlerz.py")
    assert refused.process.wait(END_SECONDS_MAX) == 2
    assert "did you mean 'handlers.py'?" in refused.said
    running = start("handlers.py")
    assert os.getsid(running.process.pid) == running.process.pid
    assert running.is_alive
    eventually(lambda: f"{short_folder}/nobody" in running.said, "it says for whom it waits")
    running.stop()
    killed = start("handlers.py")
    killed.kill()
    assert killed.process.returncode == -signal.SIGKILL
    assert not killed.is_alive
