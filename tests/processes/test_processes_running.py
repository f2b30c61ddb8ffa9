"""That the factories of real processes do what the other tests rely on."""

import pytest

from tests.processes.conftest import StartDaemon, StartWorker

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
