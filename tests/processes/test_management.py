"""Commands end real processes: a worker after what it runs, then its daemon; the audit knows."""

import json
import subprocess
import sys

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.running import RunningDaemon, eventually, inherited_variables

pytestmark = pytest.mark.slow

HANDLERS = """
from tasker_zmq import step, workflow

@step
def double(number: int) -> int:
    return 2 * number

chain = workflow("tests/chain@1.0.0", double)
"""
CHAIN = {"namespace": "tests", "name": "chain", "version": "1.0.0", "context": {"number": 1}}
REFUSED = 5
SPOKEN = "SELECT direction, command_type, outcome FROM tasker_worker_command_audit ORDER BY id"


def tasker(running: RunningDaemon, *arguments: str) -> str:
    """What a real `tasker-zmq` prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "tasker_zmq.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={
            **inherited_variables(),
            "TASKER_DATABASE_URL": running.database_url,
            "TASKER_ENDPOINTS_COMMANDS": running.endpoints["commands"],
        },
    )
    return ended.stdout


def test_a_task_runs_when_it_is_told_to_and_where_it_is_told_to(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    running = daemon()
    worker(running, HANDLERS)
    running.await_sessions(1)
    with running.client() as client:
        later = {**CHAIN, "scheduled_for": "2099-01-01T00:00:00Z"}
        task_id = client.ask("InitializeTask", {"task_request": later})["task_id"]
        told = json.loads(tasker(running, "tasks", "execute", str(task_id), "-o", "json"))
        assert (told["outcome"], told["ready_steps"]) == ("started_early", 1)
        running.await_task(task_id)
        drained = {"worker_name": "worker-1", "action": "drain", "by": "test"}
        client.ask("ManageWorker", drained)
        submitted = tasker(
            running, "tasks", "submit", "tests/chain", "--context", '{"number": 2}',
            "--worker", "worker-1", "-o", "json",
        )  # fmt: skip
        task_id = json.loads(submitted)["task_id"]
        with pytest.raises(subprocess.CalledProcessError) as refused:
            tasker(running, "steps", "send", f"{task_id}/double", "--worker", "worker-1")
        assert refused.value.returncode == REFUSED
        assert "the worker is draining" in refused.value.stderr
        client.ask("ManageWorker", {**drained, "action": "enable"})
    running.await_task(task_id)


def test_a_worker_and_then_its_daemon_are_ended_by_commands(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    running = daemon()
    working = worker(running, HANDLERS)
    with running.client() as client:
        task_id = client.ask("InitializeTask", {"task_request": CHAIN})["task_id"]
    running.await_task(task_id)
    told = json.loads(tasker(running, "workers", "shutdown", "worker-1", "--wait", "-o", "json"))
    assert told["left"]
    eventually(lambda: not working.is_alive, "the worker ends")
    assert working.process.returncode == 0
    ending = json.dumps({"action": "shutdown", "why": "enough"})
    answer = json.loads(tasker(running, "commands", "send", "SystemManagement", "--data", ending))
    assert answer["health"]["status"] == "draining"
    eventually(lambda: not running.is_alive, "the daemon ends")
    assert running.process.returncode == 0
    spoken = [tuple(row.values()) for row in running.rows(SPOKEN)]
    for kept in (
        ("received", "InitializeTask", "success"),
        ("received", "ShutdownWorker", "success"),
        ("sent", "Shutdown", None),
        ("received", "WorkerGoodbye", "answered"),
        ("received", "SystemManagement", "success"),
        ("sent", "SystemManaged", "success"),
    ):
        assert kept in spoken, spoken
