"""`tasker-zmq steps` and `tasks`: retry, resolve, cancel, pause, resume, as the daemon is asked."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.executing import Execution
from tasker_zmq.domain.ids import BatchUuid, CoreId, SessionId, StepId, TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.protocol.control import Controlled, ControlSteps, ControlTasks, Refusal
from tasker_zmq.protocol.executing import (
    BatchesSent,
    ExecuteBatch,
    ExecuteWorkflow,
    SentBatch,
    WorkflowExecuted,
)
from tasker_zmq.testing import ManualClock
from tests.store.seeding import Cast, told
from tests.unit.shell import Answer, OwnDaemon, asked_for, tasker


@pytest.fixture
def cast(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cast:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    with engine.begin() as connection:
        return told(connection, ManualClock(SystemClock().now()))


@pytest.fixture
def answers() -> list[Answer]:
    """What the daemon does; a test puts its own in front."""
    return [lambda _command: Controlled(changed=(1,))]


@pytest.mark.parametrize("action", ["retry", "resolve", "cancel"])
def test_steps_are_named_by_id_or_by_task_and_name(
    cast: Cast, daemon: OwnDaemon, engine: Engine, action: str
) -> None:
    with engine.connect() as connection:
        cast.story.connection = connection
        charge = cast.story.step(cast.failed, "charge")
        ship = cast.story.step(cast.failed, "ship")
    result = tasker("steps", action, "ORD-2/ship", str(charge), "--why", "because")
    assert result.exit_code == 0, result.output
    (command,) = daemon.asked
    request = asked_for(command, ControlSteps)
    assert (request.action, request.step_ids) == (action, tuple(sorted((charge, ship))))
    assert (request.why, bytes(request.results)) == ("because", b"null")


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_tasks_are_named_by_id_or_key(cast: Cast, daemon: OwnDaemon, action: str) -> None:
    result = tasker("tasks", action, "ORD-2", str(cast.half_way), "--why", "so", "--by", "anna")
    assert result.exit_code == 0, result.output
    (command,) = daemon.asked
    request = asked_for(command, ControlTasks)
    assert request.action == action
    assert request.task_ids == tuple(sorted((cast.failed, cast.half_way)))
    assert (request.why, request.by) == ("so", "anna")


def test_what_one_page_changed_is_changed_whatever_later_pages_say(
    cast: Cast, daemon: OwnDaemon, answers: list[Answer]
) -> None:
    task = cast.half_way
    nothing = Refusal(id=task, code="refused", message="none of its steps stands in error")
    pages = iter(
        [
            Controlled(changed=(task,), after_id=1_000),
            Controlled(already=(task,), after_id=2_000),
            Controlled(refused=(nothing,)),
        ]
    )
    answers[0] = lambda _command: next(pages)
    result = tasker("tasks", "retry", str(task), "--why", "so", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"changed": [task], "already": [], "refused": []}
    after = [asked_for(command, ControlTasks).after_id for command in daemon.asked]
    assert after == [0, 1_000, 2_000]


def test_a_refusal_is_told_and_ends_with_its_exit_code(
    cast: Cast, daemon: OwnDaemon, answers: list[Answer]
) -> None:
    refusal = Refusal(id=1, code="refused", message="task 1 is complete; can be paused: pending")
    answers[0] = lambda _command: Controlled(refused=(refusal,))
    result = tasker("tasks", "pause", str(cast.complete), "--why", "so")
    assert (result.exit_code, result.stdout) == (5, "0 paused\n")
    assert result.stderr == "error: task 1 is complete; can be paused: pending\n"
    assert len(daemon.asked) == 1


@pytest.mark.usefixtures("cast")
@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("tasks", "cancel", "ORD-2"), 2, "--why is missing"),
        (("tasks", "cancel", "--why", "x"), 2, "Missing argument"),
        (("tasks", "cancel", "ORD-9", "--why", "x"), 3, "no task has the id or the key 'ORD-9'"),
        (("steps", "retry", "ORD-2/charg", "--why", "x"), 3, "did you mean 'charge'?"),
        (("steps", "resolve", "1", "--why", "x", "--result", "{"), 2, "wanted JSON such as"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    daemon: OwnDaemon, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    result = tasker(*arguments)
    assert (result.exit_code, said in result.stderr) == (exit_code, True), result.stderr
    assert daemon.asked == []


def test_steps_are_sent_to_a_worker_and_told_in_which_batch(
    cast: Cast, daemon: OwnDaemon, answers: list[Answer]
) -> None:
    batch = SentBatch(batch_id=BatchUuid("b-1"), step_ids=(StepId(7),))
    late = Refusal(id=8, code="refused", message="step 8 (ship) waits for charge")
    told = BatchesSent(
        worker_name="anna",
        session_id=SessionId("s"),
        core_id=CoreId("core-1"),
        batches=(batch,),
        refused=(late,),
    )
    answers.insert(0, lambda _command: told)
    result = tasker("steps", "send", "ORD-2/ship", "--worker", "anna")
    assert "1 sent to anna in b-1" in result.output
    assert "step 8 (ship) waits for charge" in result.output
    assert result.exit_code != 0
    request = asked_for(daemon.asked[0], ExecuteBatch)
    assert (request.worker_name, len(request.step_ids)) == ("anna", 1)
    printed = tasker("steps", "send", "ORD-2/ship", "--worker", "anna", "-o", "json").output
    assert '"batch_id": "b-1"' in printed


def test_a_task_is_executed_by_its_key_and_says_what_happened(
    cast: Cast, daemon: OwnDaemon, answers: list[Answer]
) -> None:
    answers[0] = lambda _command: WorkflowExecuted(
        task_id=TaskId(cast.half_way),
        outcome=Execution.STARTED,
        message="task 2 was nobody's and is this core's now; steps: 1 pending",
        state=TaskState.PENDING,
        core_id=CoreId("core-1"),
        ready_steps=1,
        steps={"pending": 1},
    )
    result = tasker("tasks", "execute", str(cast.half_way))
    assert (result.exit_code, "is this core's now" in result.stdout) == (0, True), result.output
    request = asked_for(daemon.asked[0], ExecuteWorkflow)
    assert (request.task_id, request.task_request) == (cast.half_way, None)
    printed = json.loads(tasker("tasks", "execute", "ORD-2", "-o", "json").stdout)
    assert (printed["outcome"], printed["steps"]) == ("started", {"pending": 1})
