"""People decide from a shell, while real processes work: dead letters, pauses, cancellations."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import WORKLOAD, Witness, assert_invariants, submit_many
from tests.processes.running import RunningDaemon, eventually, inherited_variables

pytestmark = pytest.mark.slow

# The step fails until a file beside the handlers says that the card works.
CARDS = """
from pathlib import Path
from tasker_zmq import PermanentError, step, workflow

@step
def charge() -> str:
    if not Path("works").exists():
        raise PermanentError("card declined")
    return "paid"

@step
def ship(charge: str) -> str:
    return f"shipped, {charge}"

order = workflow("tests/order@1.0.0", ship)
"""


def tasker(running: RunningDaemon, *arguments: str) -> dict[str, Any]:
    """What the command printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "tasker_zmq.cli.main", *arguments, "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **inherited_variables(),
            "TASKER_DATABASE_URL": running.database_url,
            "TASKER_ENDPOINTS_COMMANDS": running.endpoints["commands"],
        },
        cwd=running.log.parent,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_group_of_dead_letters_is_requeued_once_its_cause_is_mended(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    running = daemon()
    started = worker(running, CARDS)
    tasks = submit_many(running, "tests/order@1.0.0", [{} for _ in range(20)])
    for task in tasks:
        running.await_task(task, "error")
    (row, *_) = running.rows("SELECT DISTINCT fingerprint FROM tasker_dead_letters")
    (started.log.parent / "handlers-1" / "works").touch()
    decided = tasker(
        running, "dlq", "requeue", "--fingerprint", row["fingerprint"], "--why", "card works"
    )
    assert len(decided["changed"]) == 20
    for task in tasks:
        running.await_task(task)
    (who,) = running.rows("SELECT DISTINCT decided_by, decision_reason FROM tasker_dead_letters")
    assert "@" in who["decided_by"]
    assert who["decision_reason"] == "card works"
    shown = tasker(running, "steps", "show", f"{tasks[0]}/charge")
    retries = [each for each in shown["transitions"] if each["event"] == "retry"]
    assert [(each["by"], each["why"]) for each in retries] == [(who["decided_by"], "card works")]
    assert_invariants(running)


def test_a_paused_task_rests_until_it_is_resumed_and_a_cancelled_one_for_good(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon()
    worker(running, WORKLOAD, variables=witness.variables)
    pipe = witness.pipe("pipe")
    paused, cancelled = submit_many(
        running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}, {"pipe": str(witness.pipe("other"))}]
    )
    for task in (paused, cancelled):
        witness.await_run(task, "wait_at")
    tasker(running, "tasks", "pause", str(paused), "--why", "so")
    tasker(running, "tasks", "cancel", str(cancelled), "--why", "so")
    pipe.write_text("go", encoding="utf-8")

    def ended() -> bool:
        query = "SELECT state FROM tasker_workflow_steps WHERE task_id = :t AND name = 'wait_at'"
        return [row["state"] for row in running.rows(query, t=paused)] == ["complete"]

    eventually(ended, "the running step of the paused task ends")
    assert witness.runs("after_waiting") == {}
    assert tasker(running, "tasks", "resume", str(paused), "--why", "so")["changed"] == [paused]
    running.await_task(paused)
    running.await_task(cancelled, "cancelled")
    assert {task for task, _ in witness.runs("after_waiting")} == {paused}
    (witness.path.parent / "other").write_text("go", encoding="utf-8")
    assert_invariants(running)


# Nothing can be reached until a file beside the handlers says that it can.
AWAY = """
from pathlib import Path
from tasker_zmq import step, workflow

@step(attempts=50, backoff="1ms")
def charge() -> str:
    if not Path("works").exists():
        raise OSError("no route to the bank")
    return "paid"

order = workflow("tests/order@1.0.0", charge)
"""


def test_a_worker_that_only_fails_is_shown_with_its_breaker_and_works_again_once_enabled(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    settings = {"TASKER_BREAKER_FAILURES": "2", "TASKER_BREAKER_COOL_OFF_SECONDS": "250"}
    running = daemon(variables=settings)
    started = worker(running, AWAY)
    (task,) = submit_many(running, "tests/order@1.0.0", [{}])

    def opened() -> bool:
        return bool(running.rows("SELECT 1 FROM tasker_worker_breakers WHERE state = 'open'"))

    eventually(opened, "the breaker opens")
    (shown,) = tasker(running, "workers", "show", "worker-1")["handlers"]
    assert (shown["breaker"], shown["failures"]) == ("open", 2)
    assert shown["last_error"] == "OSError: no route to the bank"

    def explained() -> bool:
        said = tasker(running, "tasks", "show", str(task))["explanation"]
        return "one worker knows it: its breaker is open, next try" in said

    eventually(explained, "the task says what it waits for")
    (started.log.parent / "handlers-1" / "works").touch()
    tasker(running, "workers", "enable", "worker-1", "--why", "the line is back")
    running.await_task(task)
    assert_invariants(running)
