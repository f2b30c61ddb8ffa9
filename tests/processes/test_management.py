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
