"""The Python client with a real daemon and worker: submit, wait, look, cancel, lose the daemon."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tasker_zmq import AsyncTaskerClient, TaskerClient
from tasker_zmq.client import TaskFailedError
from tasker_zmq.domain.states import TaskState
from tasker_zmq.errors import NotFoundError, RefusedError, UnreachableError
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import FORGIVING, ROOT, WORKLOAD, Witness, assert_it_held
from tests.processes.running import (
    END_SECONDS_MAX,
    RunningDaemon,
    eventually,
    inherited_variables,
)

pytestmark = pytest.mark.slow

CHAIN = "tests/chain@1.0.0"


@pytest.fixture
def running(daemon: StartDaemon, worker: StartWorker, witness: Witness) -> RunningDaemon:
    started = daemon(variables=FORGIVING)
    worker(
        started,
        WORKLOAD,
        arguments=("--concurrency", "4", "--name", "anna"),
        variables=witness.variables,
    )
    return started


@pytest.fixture
def client(running: RunningDaemon) -> Iterator[TaskerClient]:
    with TaskerClient(running.endpoints["commands"], timeout_seconds=30) as found:
        yield found


def test_a_task_is_submitted_awaited_and_looked_at(
    running: RunningDaemon, client: TaskerClient
) -> None:
    made = client.submit("tests/chain", {"number": 1}, identity="one", tags=("red",), priority=3)
    task = made.wait(timeout_seconds=30).check()
    assert (task.workflow, task.state, task.priority) == (CHAIN, TaskState.COMPLETE, 3)
    assert [each.name for each in task.steps] == ["first", "second", "third", "fourth"]
    assert set(task.results) == {"first", "second", "third", "fourth"}
    assert task.context == {"number": 1}
    again = client.submit("tests/chain", {"number": 1}, identity="one")
    assert (again.task_id, again.duplicate, made.duplicate) == (made.task_id, True, False)
    (listed,) = client.tasks(namespace="tests", name="chain", limit=5)
    assert (listed.task_id, listed.tags, listed.steps_done) == (made.task_id, ("red",), 4)
    assert client.health()["status"] == "ok"
    assert client.ask("GetTask", {"task_id": made.task_id})["state"] == "complete"
    assert_it_held(running)


def test_a_task_may_be_for_one_worker_alone(client: TaskerClient) -> None:
    client.submit("tests/chain", {"number": 1}, worker="anna").wait(timeout_seconds=30).check()
    with pytest.raises((NotFoundError, RefusedError), match="nobody"):
        client.submit("tests/chain", {"number": 2}, worker="nobody")


def test_what_failed_says_so_and_what_is_unknown_is_refused(client: TaskerClient) -> None:
    task = client.submit("tests/half", {}).wait(timeout_seconds=30)
    with pytest.raises(TaskFailedError, match=r"tests/half@1.0.0\) is error; \w+: "):
        task.check()
    with pytest.raises(NotFoundError):
        client.submit("tests/nothing")
    with pytest.raises(NotFoundError):
        client.wait(1 << 40)
    with pytest.raises(ValueError, match="wanted a workflow as"):
        client.submit("chain")


def test_a_task_is_paused_resumed_and_cancelled(client: TaskerClient, witness: Witness) -> None:
    pipe = witness.pipe("held")
    made = client.submit("tests/waiting", {"pipe": str(pipe)})
    witness.await_run(made.task_id, "wait_at")
    assert client.pause(made.task_id, why="tests")
    assert not client.pause(made.task_id, why="tests")
    assert client.get(made.task_id).paused
    assert client.resume(made.task_id, why="tests")
    assert made.cancel(why="tests")
    witness.release(pipe)
    assert made.wait(timeout_seconds=30).state is TaskState.CANCELLED
    with pytest.raises(RefusedError):
        client.pause(made.task_id, why="too late")


def test_an_event_loop_awaits_many_at_once(running: RunningDaemon) -> None:
    async def many() -> list[TaskState]:
        async with AsyncTaskerClient(running.endpoints["commands"], timeout_seconds=30) as client:
            made = await asyncio.gather(
                *(client.submit("tests/chain", {"number": each}) for each in range(20))
            )
            ended = await asyncio.gather(*(each.wait(timeout_seconds=60) for each in made))
            return [each.check().state for each in ended]

    assert asyncio.run(many()) == [TaskState.COMPLETE] * 20


def test_who_submits_and_waits_hardly_notices_that_the_daemon_was_killed(
    running: RunningDaemon, daemon: StartDaemon, client: TaskerClient, witness: Witness
) -> None:
    pipe = witness.pipe("held")
    before = client.submit("tests/waiting", {"pipe": str(pipe)})
    witness.await_run(before.task_id, "wait_at")
    running.kill()
    hasty = TaskerClient(running.endpoints["commands"], timeout_seconds=0.2)
    with hasty, pytest.raises(UnreachableError):
        hasty.submit("tests/chain", {"number": 1})
    after = daemon(variables=FORGIVING)
    witness.release(pipe)
    assert before.wait(timeout_seconds=60).check().state is TaskState.COMPLETE
    client.submit("tests/chain", {"number": 2}).wait(timeout_seconds=60).check()
    eventually(lambda: client.health()["epoch"] == 2, "the new daemon answers")
    assert_it_held(after)


def test_what_the_page_about_the_client_shows_runs(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    running = daemon(variables=FORGIVING)
    worker(running, (ROOT / "examples" / "orders.py").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "CLIENT.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    variables = {**inherited_variables(), "TASKER_COMMANDS": running.endpoints["commands"]}
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env=variables,
            capture_output=True,
            text=True,
            timeout=END_SECONDS_MAX,
        ).stdout
        for code in shown
    ]
    assert said[0] == "complete {'parcel': 'tea', 'reserved': 3, 'charged_cents': 1350}\n"
    assert said[1] == "".join(f"{number} complete\n" for number in range(2, 7))
    assert said[3] == "100\n"
