"""SIGTERM lets what runs come to its end, a second one does not; nothing listens afterwards."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    FORGIVING,
    IMPATIENT,
    WORKLOAD,
    Witness,
    assert_invariants,
    await_no_open_tasks,
    counted,
    listens,
    submit_many,
)
from tests.processes.running import END_SECONDS_MAX, Program, RunningDaemon, eventually

pytestmark = pytest.mark.slow

PATIENT = {"TASKER_DRAIN_GRACE_SECONDS": "60s", "TASKER_RETRY_JITTER": "0"}
CHAIN = {"namespace": "tests", "name": "chain", "version": "1.0.0", "context": {"number": 1}}


def begin_to_wait(running: RunningDaemon, witness: Witness) -> tuple[int, Path]:
    """A task whose first step runs until somebody writes to the pipe."""
    pipe = witness.pipe("held")
    task_id = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(task_id, "wait_at")
    return task_id, pipe


def states(running: RunningDaemon, task_id: int) -> dict[str, str]:
    found = running.rows(
        """SELECT n.name, s.state FROM tasker_workflow_steps s
        JOIN tasker_named_steps n USING (named_step_id) WHERE s.task_id = :task""",
        task=task_id,
    )
    return {each["name"]: each["state"] for each in found}


def insist(stopping: Program) -> None:
    """SIGTERM again and again until it has ended: what follows in a moment is still the first."""
    stopping.expected_exit = 1

    def has_ended() -> bool:
        stopping.send_signal(signal.SIGTERM)
        return not stopping.is_alive

    eventually(has_ended, f"{stopping.name} ends at once")
    assert stopping.process.returncode == 1, stopping.tail


def health(running: RunningDaemon) -> Any:
    with running.client() as client:
        return client.ask("HealthCheck")


def test_a_stopping_daemon_records_what_runs_and_sends_nothing_new(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=PATIENT, transport="tcp")
    worker(running, WORKLOAD, variables=witness.variables)
    task_id, pipe = begin_to_wait(running, witness)
    running.send_signal(signal.SIGTERM)
    eventually(lambda: health(running)["status"] == "draining", "its health says that it drains")
    with running.client() as client:
        refused = client.refusal("InitializeTask", {"task_request": CHAIN})
        assert (refused.code, refused.hint) == ("busy", "ask again once a daemon is up")
    pipe.write_text("released", encoding="utf-8")
    assert running.process.wait(END_SECONDS_MAX) == 0
    assert states(running, task_id) == {"wait_at": "complete", "after_waiting": "pending"}
    assert not [each for each in running.endpoints.values() if listens(each)]
    assert_invariants(running)


def test_a_second_sigterm_ends_a_draining_daemon_at_once(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables={**PATIENT, **FORGIVING})
    worker(running, WORKLOAD, variables=witness.variables)
    task_id, pipe = begin_to_wait(running, witness)
    running.send_signal(signal.SIGTERM)
    eventually(lambda: "daemon_draining" in running.said, "it drains")
    insist(running)
    assert states(running, task_id)["wait_at"] == "in_progress"
    assert not [each for each in running.endpoints.values() if listens(each)]
    after = daemon(variables={**PATIENT, **FORGIVING})
    after.await_sessions(1)
    pipe.write_text("released", encoding="utf-8")
    after.await_task(task_id)
    assert witness.attempts(task_id, "wait_at") == [1]


def test_a_stopping_worker_ends_what_runs_and_gives_back_what_does_not(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables={**PATIENT, "TASKER_DISPATCH_CREDIT_FACTOR": "5"})
    single = ("--concurrency", "1", "--drain-seconds", "60")
    stopping = worker(running, WORKLOAD, arguments=single, variables=witness.variables)
    task_id, pipe = begin_to_wait(running, witness)
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(8)])
    eventually(
        lambda: counted(running, "tasker_workflow_steps").get("in_progress") == 5,
        "it holds as many steps as its credit allows",
    )
    stopping.send_signal(signal.SIGTERM)
    eventually(lambda: "worker_stopping" in stopping.said, "it stops")
    assert "given_back=4" in stopping.said
    pipe.write_text("released", encoding="utf-8")
    assert stopping.process.wait(END_SECONDS_MAX) == 0
    assert states(running, task_id)["wait_at"] == "complete"
    assert [each.step_name for each in witness.testimonies] == ["wait_at"]
    running.await_sessions(0)
    worker(running, WORKLOAD, name="worker-2", variables=witness.variables)
    await_no_open_tasks(running)
    attempts = running.rows("SELECT DISTINCT attempts FROM tasker_workflow_steps")
    assert attempts == [{"attempts": 1}]  # what was given back was not charged
    assert_invariants(running)


def test_a_second_sigterm_ends_a_draining_worker_at_once_and_its_step_runs_elsewhere(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables={**PATIENT, **IMPATIENT})
    stopping = worker(
        running, WORKLOAD, arguments=("--drain-seconds", "60"), variables=witness.variables
    )
    task_id, pipe = begin_to_wait(running, witness)
    stopping.send_signal(signal.SIGTERM)
    eventually(lambda: "worker_stopping" in stopping.said, "it stops")
    insist(stopping)
    worker(running, WORKLOAD, name="worker-2", variables=witness.variables, sessions=None)
    pipe.write_text("released", encoding="utf-8")
    running.await_task(task_id)
    assert len(witness.attempts(task_id, "wait_at")) == 2
    assert_invariants(running)


def test_two_signals_within_a_moment_are_one_wish(daemon: StartDaemon) -> None:
    running = daemon()
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    assert running.process.wait(END_SECONDS_MAX) == 0
