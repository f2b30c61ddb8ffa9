"""Whoever starts first, ends or is killed: every task comes to its end, and nothing is lost."""

import signal

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    FORGIVING,
    IMPATIENT,
    WORKLOAD,
    Witness,
    assert_invariants,
    assert_one_outcome_each,
    await_no_open_tasks,
    await_steps,
    counted,
    submit_many,
)
from tests.processes.running import eventually

pytestmark = pytest.mark.slow

TASKS = 40
STEPS = 4 * TASKS


def test_a_worker_waits_for_a_daemon_that_starts_later(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    first = daemon()
    first.stop()
    early = worker(first, WORKLOAD, variables=witness.variables, sessions=None)
    eventually(lambda: "daemon_away_still_trying" in early.said, "the worker says that it waits")
    running = daemon()
    running.await_sessions(1)
    task_id = submit_many(running, "tests/chain@1.0.0", [{"number": 1}])[0]
    running.await_task(task_id)
    assert early.said.count("daemon_away_still_trying") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_amid_work_goes_on_after_its_restart(
    daemon: StartDaemon, worker: StartWorker, witness: Witness, number: signal.Signals
) -> None:
    variables = {**FORGIVING, "TASKER_DRAIN_GRACE_SECONDS": "200ms"}
    running = daemon(variables=variables)
    staying = worker(
        running, WORKLOAD, variables=witness.variables, arguments=("--concurrency", "2")
    )
    pipe = witness.pipe("held")
    held = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(held, "wait_at")
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(TASKS)])
    await_steps(running, "complete", STEPS // 8)
    if number is signal.SIGKILL:
        running.kill()
    else:
        running.stop()
    assert counted(running, "tasker_workflow_steps").get("complete", 0) < STEPS
    running = daemon(variables=variables)
    running.await_sessions(1)
    witness.release(pipe)
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": TASKS + 1}
    assert len(witness.runs("fourth")) == TASKS
    assert witness.attempts(held, "wait_at") == [1]  # it ran on while the daemon was away
    assert staying.is_alive
    assert_one_outcome_each(running)
    assert_invariants(running)


def test_steps_of_a_killed_worker_are_run_by_another(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    both = [
        worker(
            running,
            WORKLOAD,
            name=f"worker-{number}",
            arguments=("--concurrency", "2"),
            variables=witness.variables,
            sessions=number,
        )
        for number in (1, 2)
    ]
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(TASKS)])
    await_steps(running, "complete", STEPS // 8)
    both[0].kill()
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": TASKS}
    running.await_sessions(1)
    assert_one_outcome_each(running)
    assert_invariants(running)


def test_a_step_that_ran_in_a_killed_worker_runs_again_on_another(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    doomed = worker(running, WORKLOAD, variables=witness.variables)
    pipe = witness.pipe("held")
    task_id = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(task_id, "wait_at")
    doomed.kill()
    worker(running, WORKLOAD, name="worker-2", variables=witness.variables, sessions=None)
    witness.release(pipe)
    running.await_task(task_id)
    steps = [each for each in witness.testimonies if each.step_name == "wait_at"]
    assert steps[0].process_id == doomed.process.pid
    assert len(steps) == 2
    assert_invariants(running)
