"""Cancelled tasks: what waits never starts, what runs is not tried again."""

import msgspec
import pytest

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import CancelSteps, ConfirmStart, StartConfirmed
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
)
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.deciding import (
    CHAIN,
    WHY,
    Shop,
    steps,
    tasks,
    transitions,
)


def cancelled_while_running(world: World, worker: SimulatedWorker, *, retryable: bool) -> TaskId:
    """A task of `a` then `b` that is cancelled while `a` runs."""
    retry = {"max_attempts": 5, "retryable": retryable}
    name = f"pair{retryable}".lower()
    world.publish(template(name, {"a": Node(retry=retry), "b": Node(after=("a",))}))
    task = world.submit(name)
    assert world.states(task)["a"] == "in_progress"
    tasks(world, "cancel", task)
    assert world.states(task) == {"a": "in_progress", "b": "cancelled"}
    assert len(worker.requests) == 1
    return task


def test_a_cancelled_task_ends_and_what_waits_of_it_never_starts(world: World) -> None:
    world.publish(template("chain", {**CHAIN, "x": Node()}))
    world.worker(handler=Shop("x"))
    task = world.submit("chain")
    world.tick(*world.work())
    assert world.states(task)["x"] == "error"
    assert tasks(world, "cancel", task).changed == (task,)
    ended = world.task(task)
    assert (ended.state, ended.completed_at) == ("cancelled", world.clock.now())
    assert world.states(task) == {
        "a": "complete",
        "b": "in_progress",
        "c": "cancelled",
        "x": "cancelled",
    }
    assert world.dead_letters()[0].status == "discarded"
    assert tasks(world, "cancel", task).already == (task,)
    (refusal,) = steps(world, "resolve", world.steps(task)["x"].workflow_step_id).refused
    assert "is cancelled for good" in refusal.message
    world.run()


def test_workers_are_told_which_running_steps_nobody_wants_any_more(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node()}))
    worker = world.worker("berta")
    task = world.submit("two")
    kept = world.submit("two")
    before = len(world.letters)
    tasks(world, "cancel", task)
    told = [
        msgspec.json.decode(letter.payload.data, type=CancelSteps)
        for route, letter in world.letters[before:]
        if letter.command_type == "CancelSteps" and route == worker.route
    ]
    (cancel,) = told
    assert (cancel.session_id, cancel.reason) == (worker.session_id, WHY)
    named = {step_id for each in cancel.steps for step_id in each.step_ids}
    assert named == {step.workflow_step_id for step in world.steps(task).values()}
    world.run()
    assert world.task(kept).state == "complete"


def test_a_task_with_thousands_of_steps_is_cancelled_at_once_and_its_steps_in_pages(
    world: World,
) -> None:
    count = CONTROLLED_MAX + 5
    world.publish(template("wide", {f"s{number}": Node() for number in range(count)}))
    task = world.submit("wide")
    first = tasks(world, "cancel", task)
    assert first.changed == (task,)
    assert first.after_id is not None
    worker = world.worker(concurrency=5_000)
    assert worker.requests == []
    assert tasks(world, "cancel", task, after_id=first.after_id).after_id is None
    assert set(world.states(task).values()) == {"cancelled"}


def test_a_running_step_of_a_cancelled_task_that_fails_is_not_tried_again(world: World) -> None:
    worker = world.worker(handler=lambda _: Word(status="failed", error=StepError(message="no")))
    task = cancelled_while_running(world, worker, retryable=True)
    world.run()
    step = world.steps(task)["a"]
    assert (step.state, step.finished_at) == ("cancelled", world.clock.now())
    assert transitions(world, step.workflow_step_id)[-1] == ("in_progress", "cancel", "cancelled")
    assert world.dead_letters() == []
    assert len(worker.requests) == 1


def test_a_running_step_of_a_cancelled_task_that_completes_is_recorded_and_starts_nothing(
    world: World,
) -> None:
    worker = world.worker(handler=Shop())
    task = cancelled_while_running(world, worker, retryable=True)
    world.run()
    assert world.states(task) == {"a": "complete", "b": "cancelled"}
    assert world.steps(task)["a"].results == {"from": "a"}
    assert world.task(task).state == "cancelled"
    assert [request.step_name for request in worker.requests] == ["a"]


@pytest.mark.parametrize("retryable", [True, False])
def test_a_running_step_of_a_cancelled_task_that_is_lost_is_not_sent_again(
    world: World, *, retryable: bool
) -> None:
    worker = world.worker()
    task = cancelled_while_running(world, worker, retryable=retryable)
    worker.silent = True
    world.wait(world.tuning.session_dead_seconds + 1)
    other = world.worker("berta")
    world.run()
    assert world.states(task) == {"a": "cancelled", "b": "cancelled"}
    assert other.requests == []
    assert world.dead_letters() == []


def test_a_running_step_of_a_cancelled_task_that_runs_out_of_time_is_not_sent_again(
    world: World,
) -> None:
    worker = world.worker()
    task = cancelled_while_running(world, worker, retryable=True)
    world.wait(120)
    assert world.states(task) == {"a": "cancelled", "b": "cancelled"}
    assert len(worker.requests) == 1
    world.run()
    assert world.states(task)["a"] == "cancelled"  # what its worker says now is too late


def test_a_lost_batch_of_a_cancelled_task_is_not_sent_again(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    worker = world.worker()
    worker.hears = False
    task = world.submit("one")
    worker.hears = True
    tasks(world, "cancel", task)
    world.wait(5 * world.tuning.heartbeat_interval_seconds)
    assert worker.requests == []
    world.wait(120)
    assert world.states(task) == {"a": "cancelled"}
    assert worker.requests == []


def test_a_step_that_asks_before_it_starts_is_not_allowed_to_once_its_task_is_cancelled(
    world: World,
) -> None:
    world.publish(template("one", {"a": Node(retry={"retryable": False})}))
    worker = world.worker()
    task = world.submit("one")
    (batch,) = worker.in_hand
    tasks(world, "cancel", task)
    request = ConfirmStart(
        session_id=world.session(worker).session_id,
        batch_id=batch.batch_id,
        step_ids=tuple(each.step_id for each in batch.steps),
    )
    reply = world.ask("ConfirmStart", request)
    assert codec.decode_data(reply.payload.data, StartConfirmed).step_ids == ()
    world.wait(120)
    assert world.states(task) == {"a": "cancelled"}
