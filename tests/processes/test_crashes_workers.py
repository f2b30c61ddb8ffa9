"""A worker that is killed, is silent or shares its name: its work is done once, by somebody."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    IMPATIENT,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    counted,
    submit_many,
    verdicts,
)
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

HELD = 3
TASKS = 30


def hold_steps(running: RunningDaemon, witness: Witness) -> list[int]:
    """Tasks whose first step runs until somebody writes to the pipe of the task."""
    pipes = [witness.pipe(f"held-{number}") for number in range(HELD)]
    tasks = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(each)} for each in pipes])
    for task_id in tasks:
        witness.await_run(task_id, "wait_at")
    return tasks


def release(witness: Witness) -> None:
    for number in range(HELD):
        (witness.path.parent / f"held-{number}").write_text("released", encoding="utf-8")


def release_again(witness: Witness) -> None:
    """For those who still wait: the pause made them begin to wait anew."""
    for number in range(HELD):
        pipe = witness.path.parent / f"held-{number}"
        with suppress(OSError):  # nobody waits there
            place = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            os.write(place, b"released")
            os.close(place)


def runners(witness: Witness, task_id: int) -> list[int]:
    """The processes in which the held step ran, in order."""
    return [
        each.process_id
        for each in witness.testimonies
        if (each.task_id, each.step_name) == (task_id, "wait_at")
    ]


def await_second_runs(witness: Witness, tasks: Sequence[int]) -> None:
    def all_ran_again() -> bool:
        return all(len(runners(witness, task_id)) > 1 for task_id in tasks)

    eventually(all_ran_again, "all of them run again")


def test_steps_that_ran_in_a_killed_worker_run_elsewhere_and_count_once(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    threads = ("--concurrency", "4")
    doomed = worker(running, WORKLOAD, arguments=threads, variables=witness.variables)
    tasks = hold_steps(running, witness)
    other = worker(
        running,
        WORKLOAD,
        name="worker-2",
        arguments=threads,
        variables=witness.variables,
        sessions=2,
    )
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(TASKS)])
    await_steps(running, "complete", TASKS)
    doomed.kill()
    await_second_runs(witness, tasks)
    release(witness)
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": TASKS + HELD}
    for task_id in tasks:
        assert runners(witness, task_id) == [doomed.process.pid, other.process.pid]
    assert set(witness.runs("fourth").values()) <= {1, 2}
    assert_it_held(running)


def test_what_a_worker_says_after_a_silence_that_was_too_long_does_not_count_twice(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    paused = worker(
        running, WORKLOAD, arguments=("--concurrency", "4"), variables=witness.variables
    )
    tasks = hold_steps(running, witness)
    paused.send_signal(signal.SIGSTOP)
    other = worker(
        running,
        WORKLOAD,
        name="worker-2",
        arguments=("--concurrency", "4"),
        variables=witness.variables,
        sessions=None,
    )
    await_second_runs(witness, tasks)
    release(witness)
    await_no_open_tasks(running)
    paused.send_signal(signal.SIGCONT)
    said_late = "message_type = 'partial_result' AND r.worker_id = 'worker-1'"

    def told_after_all() -> bool:
        release_again(witness)
        return sum(verdicts(running, said_late).values()) >= HELD

    eventually(told_after_all, "it tells its results after all")
    assert verdicts(running, said_late).keys() <= {"stale", "duplicate", "noted"}
    for task_id in tasks:
        assert runners(witness, task_id) == [paused.process.pid, other.process.pid]
    assert counted(running, "tasker_tasks") == {"complete": HELD}
    assert_it_held(running)


def test_two_processes_under_one_name_are_two_sessions(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    both = [
        worker(
            running,
            WORKLOAD,
            name="twin",
            arguments=("--concurrency", "2"),
            variables=witness.variables,
            sessions=number,
        )
        for number in (1, 2)
    ]
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(TASKS)])
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": TASKS}
    assert {each.process_id for each in witness.testimonies} == {each.process.pid for each in both}
    assert set(witness.runs().values()) == {1}
    sessions = running.rows(
        "SELECT count(*) AS sessions, count(DISTINCT worker_id) AS workers "
        "FROM tasker_worker_registrations WHERE status <> 'disconnected'"
    )
    assert sessions == [{"sessions": 2, "workers": 1}]
    both[0].kill()
    running.await_sessions(1)
    submit_many(running, "tests/chain@1.0.0", [{"number": 1}])
    await_no_open_tasks(running)
    assert_it_held(running)
