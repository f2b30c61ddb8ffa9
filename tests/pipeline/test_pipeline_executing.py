"""ExecuteWorkflow: a task is run now, be it there or made for it; the answer says what happened."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.executing import Execution
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.claims import ReleaseMutex
from tasker_zmq.protocol.commands import ERROR
from tasker_zmq.protocol.control import ControlTasks
from tasker_zmq.protocol.executing import WorkflowExecuted
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import NAMESPACE, VERSION, Node, World, template
from tests.pipeline.conftest import MakeWorld

CHAIN = template("chain", {"first": Node(), "second": Node(after=("first",))})
REQUEST = {"namespace": NAMESPACE, "name": "chain", "version": VERSION}


def executed(world: World, *, command_id: str | None = None, **data: Any) -> WorkflowExecuted:
    reply = world.ask("ExecuteWorkflow", msgspec.json.encode(data), command_id=command_id)
    assert reply.payload.type != ERROR, bytes(reply.payload.data)
    return msgspec.json.decode(reply.payload.data, type=WorkflowExecuted)


def refused(world: World, **data: Any) -> dict[str, Any]:
    reply = world.ask("ExecuteWorkflow", msgspec.json.encode(data))
    assert reply.payload.type == ERROR
    return dict(msgspec.json.decode(reply.payload.data))


def control(world: World, action: TaskAction, task_id: TaskId) -> None:
    asked = ControlTasks(action=action, task_ids=(task_id,), why="test", by="ann")
    assert world.ask("ControlTasks", asked).payload.type != ERROR


def given_up(world: World, task_id: TaskId) -> None:
    asked = ReleaseMutex(task_ids=(task_id,), why="test")
    assert world.ask("ReleaseMutex", asked).payload.type != ERROR


def later(world: World, **more: float) -> str:
    return (world.clock.now() + timedelta(**more)).isoformat()


def test_a_request_is_made_as_a_task_and_run_once_however_often_it_comes(world: World) -> None:
    world.publish(CHAIN)
    worker = world.worker()
    told = executed(world, task_request=REQUEST, command_id="mine")
    assert (told.outcome, told.ready_steps, told.steps) == (Execution.CREATED, 1, {"pending": 2})
    assert told.core_id == "core-1"
    assert len(worker.requests) == 1  # sent in the tick of the command
    again = executed(world, task_request=REQUEST, command_id="mine")
    assert again == told
    same = world.submit("chain", identity="order-1")
    known = executed(world, task_request={**REQUEST, "identity": "order-1"})
    assert (known.task_id, known.outcome) == (same, Execution.RUNNING)
    world.run()
    assert len(world.rows("SELECT 1 FROM tasker_tasks")) == 2


def test_a_request_is_the_same_task_for_a_daemon_that_was_restarted(world: World) -> None:
    world.publish(CHAIN)
    first = executed(world, task_request=REQUEST, command_id="mine")
    world.restart()
    again = executed(world, task_request=REQUEST, command_id="mine")
    assert (again.task_id, again.outcome) == (first.task_id, Execution.RUNNING)
    world.worker()
    world.run()


def test_a_task_for_later_begins_now(world: World) -> None:
    world.publish(CHAIN)
    worker = world.worker()
    task_id = world.submit("chain", scheduled_for=later(world, hours=2))
    assert not worker.requests
    kept = executed(world, task_id=task_id, execution_mode="scheduled")
    assert (kept.outcome, kept.core_id, worker.requests) == (Execution.SCHEDULED, None, [])
    told = executed(world, task_id=task_id)
    assert (told.outcome, told.core_id, told.ready_steps) == (
        Execution.STARTED_EARLY,
        "core-1",
        1,
    )
    assert "was to begin in 2 h and begins now" in told.message
    assert len(worker.requests) == 1
    assert world.task(task_id).scheduled_for == world.clock.now()
    world.run()
    assert world.task(task_id).state == "complete"


def test_a_task_that_is_nobodys_is_claimed_whoever_gave_it_up(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    given_up(world, task_id)
    worker = world.worker()
    assert world.task(task_id).processing_core_id is None
    told = executed(world, task_id=task_id)
    assert (told.outcome, len(worker.requests)) == (Execution.STARTED, 1)
    world.run()


def test_what_a_claimed_task_waits_for_is_tried_again_in_time(make_world: MakeWorld) -> None:
    world, other = make_world(), make_world(core_id="core-2", seed=2)
    retry = {"max_attempts": 2, "backoff": "constant", "backoff_base_ms": 60_000}
    world.publish(template("flaky", {"a": Node(retry=retry)}))
    world.worker(handler=lambda _: Word(status="failed", error=StepError(message="once")))
    other.worker("bert")
    task_id = world.submit("flaky")
    for frame in world.work():
        world.tick(frame)
    given_up(world, task_id)
    told = executed(other, task_id=task_id)
    assert (told.outcome, told.steps) == (Execution.STARTED, {"waiting_for_retry": 1})
    assert other.state.next_retry_at is not None
    other.run()
    assert other.task(task_id).state == "complete"


def test_a_task_of_this_core_says_what_it_is_at_and_is_not_sent_twice(world: World) -> None:
    world.publish(CHAIN)
    worker = world.worker()
    task_id = world.submit("chain")
    told = executed(world, task_id=task_id)
    assert (told.outcome, told.state) == (Execution.RUNNING, "in_progress")
    assert told.steps == {"in_progress": 1, "pending": 1}
    assert "1 in progress and 1 pending" in told.message
    assert len(worker.requests) == 1
    world.run()
    ended = executed(world, task_id=task_id)
    assert (ended.outcome, ended.state, ended.steps) == (
        Execution.ENDED,
        "complete",
        {"complete": 2},
    )


def test_a_paused_task_stays_paused(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    control(world, TaskAction.PAUSE, task_id)
    worker = world.worker()
    told = executed(world, task_id=task_id)
    assert (told.outcome, told.ready_steps, worker.requests) == (Execution.PAUSED, 0, [])
    control(world, TaskAction.RESUME, task_id)
    world.run()


def test_a_task_of_another_core_is_redirected_while_that_one_lives(
    world: World, make_world: MakeWorld
) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.publish(CHAIN)
    task_id = other.submit("chain")
    told = refused(world, task_id=task_id)
    assert (told["code"], told["core"]["commands"]) == ("elsewhere", "ipc://core-2")
    world.clock.advance(other.tuning.core_lease_seconds + 1)
    world.state.next_sweep_at = world.clock.now() + timedelta(hours=1)
    left = executed(world, task_id=task_id)
    assert (left.outcome, left.core_id) == (Execution.ABANDONED, "core-2")
    world.worker()  # its tick is the sweep that the answer promised
    assert world.task(task_id).processing_core_id == "core-1"
    world.run()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "either a task_id or a task_request"),
        ({"task_id": 1, "task_request": REQUEST}, "either a task_id or a task_request"),
        ({"task_id": 1, "execution_mode": "background"}, "is for a task that is to be made"),
        ({"task_id": 1, "workflow": {"name": "x"}}, "is for a task that is to be made"),
        ({"task_id": 999_999}, "no task has the id"),
        (
            {"task_request": {**REQUEST, "execution_mode": "immediate"},
             "execution_mode": "background"},
            "execution_mode is 'background'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(world: World, data: dict[str, Any], said: str) -> None:
    world.publish(CHAIN)
    assert said in refused(world, **data)["message"]
