"""Two daemons on one database: what one of them leaves behind, the other finishes."""

import pytest

from tasker_zmq import TaskerClient
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    FORGIVING,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    submit_many,
)
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

CHAINS = 20


@pytest.fixture
def cores(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> tuple[RunningDaemon, RunningDaemon]:
    """A daemon with a worker of its own, twice."""
    found = daemon(core_id="one", variables=FORGIVING), daemon(core_id="two", variables=FORGIVING)
    for number, each in enumerate(found, start=1):
        name = f"worker-{number}"
        worker(each, WORKLOAD, name=name, variables=witness.variables)
    return found


def owners(running: RunningDaemon) -> set[str]:
    found = running.rows("SELECT DISTINCT processing_core_id FROM tasker_tasks")
    return {row["processing_core_id"] for row in found}


def batch_cores(running: RunningDaemon) -> set[str]:
    found = running.rows("SELECT DISTINCT core_id FROM tasker_step_execution_batches")
    return {row["core_id"] for row in found}


def test_each_core_runs_what_it_was_asked_for_and_nothing_twice(
    cores: tuple[RunningDaemon, RunningDaemon], witness: Witness
) -> None:
    with TaskerClient(*(each.endpoints["commands"] for each in cores)) as client:
        made = [client.submit("tests/chain", {"number": each}) for each in range(CHAINS)]
        for each in made:
            each.wait(timeout_seconds=60).check()
    assert owners(cores[0]) == {"one", "two"}
    assert set(witness.runs().values()) == {1}
    assert_it_held(cores[1])


def test_what_a_killed_core_left_behind_is_finished_by_the_other(
    cores: tuple[RunningDaemon, RunningDaemon], witness: Witness
) -> None:
    first, second = cores
    pipe = witness.pipe("held")
    held = submit_many(first, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(held, "wait_at")
    submit_many(first, "tests/chain@1.0.0", [{"number": each} for each in range(CHAINS)])
    await_steps(first, "complete", CHAINS)
    first.kill()
    witness.release(pipe)
    await_no_open_tasks(second)
    assert owners(second) <= {"one", "two"}  # what had ended keeps its owner
    assert_it_held(second)


def test_a_worker_takes_what_a_killed_core_sent_it_to_the_other_and_runs_nothing_again(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    first = daemon(core_id="one", variables=FORGIVING)
    worker(first, WORKLOAD, variables=witness.variables)
    second = daemon(core_id="two", variables=FORGIVING)
    second.await_sessions(1)  # it was told of it by the first
    pipe = witness.pipe("held")
    held = submit_many(first, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(held, "wait_at")
    first.kill()
    eventually(lambda: batch_cores(second) == {"two"}, "the worker has brought its batch along")
    witness.release(pipe)
    await_no_open_tasks(second)
    assert witness.runs()[held, "wait_at"] == 1
    assert (
        sum(row["losses"] for row in second.rows("SELECT losses FROM tasker_workflow_steps")) == 0
    )
    assert_it_held(second)


def test_what_a_stopped_core_leaves_behind_is_taken_over_without_waiting_for_its_lease(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    patient = {**FORGIVING, "TASKER_HEARTBEAT_CORE_LEASE_SECONDS": "1h"}
    patient["TASKER_DISPATCH_SWEEP_SECONDS"] = "1h"
    first, second = (daemon(core_id=each, variables=patient) for each in ("one", "two"))
    worker(second, WORKLOAD, variables=witness.variables).stop()  # so that nothing runs so far
    task = submit_many(first, "tests/chain@1.0.0", [{"number": 1}])[0]
    eventually(lambda: owners(second) == {"one"}, "the first core owns it")
    first.stop()
    worker(second, WORKLOAD, variables=witness.variables)
    assert second.await_task(task)["core_id"] == "two"
    assert_it_held(second)
