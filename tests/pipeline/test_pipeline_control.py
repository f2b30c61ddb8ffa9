"""What people decide about steps and tasks, through the daemon's commands."""

from typing import Any

import msgspec
import pytest

from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.commands import (
    ErrorData,
)
from tasker_zmq.protocol.control import (
    ControlTasks,
)
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld
from tests.pipeline.deciding import (
    BY,
    CHAIN,
    WHY,
    Shop,
    steps,
    task_events,
    tasks,
)


def test_who_decided_and_why_is_kept_with_the_transitions(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    task = world.submit("chain")
    world.run()
    steps(world, "retry", world.steps(task)["b"].workflow_step_id, command_id="mine")
    told = world.rows(
        "SELECT metadata FROM tasker_workflow_step_transitions WHERE metadata IS NOT NULL "
        "UNION ALL SELECT metadata::text::json FROM tasker_task_transitions "
        "WHERE metadata IS NOT NULL".replace("SELECT metadata ", "SELECT metadata::text::json ")
    )
    assert [row[0] for row in told] == [{"by": BY, "why": WHY, "command_id": "mine"}] * 2
    world.run()


def test_a_command_that_comes_twice_retries_a_step_once(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    step_id = world.steps(world.submit("chain"))["b"].workflow_step_id
    world.run()
    first = steps(world, "retry", step_id, command_id="once")
    assert first.changed == (step_id,)
    world.run()
    assert steps(world, "retry", step_id, command_id="once") == first
    world.restart()  # the new process has forgotten its answers, the rows have not
    world.worker("berta", handler=Shop("b"))
    again = steps(world, "retry", step_id, command_id="once")
    assert (again.changed, again.already) == ((), (step_id,))
    assert steps(world, "retry", step_id, command_id="twice").changed == (step_id,)
    world.run()


def test_a_task_that_never_started_may_be_resolved_to_its_end(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    task = world.submit("one")
    steps(world, "resolve", world.steps(task)["a"].workflow_step_id)
    assert task_events(world, task) == ["create", "start", "complete"]
    worker = world.worker()
    world.run()
    assert worker.requests == []


def test_steps_are_moved_along_their_arrows_only_and_a_refusal_names_what_is_possible(
    world: World,
) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    task = world.submit("chain")
    running = world.steps(task)["a"].workflow_step_id
    (refusal,) = steps(world, "cancel", running).refused
    assert "is in_progress: a worker has it" in refusal.message
    world.run()
    ids = {name: step.workflow_step_id for name, step in world.steps(task).items()}
    refused = steps(world, "retry", *ids.values(), 999_999).refused
    assert [(each.id, each.code) for each in refused] == [
        (ids["a"], "refused"),
        (ids["c"], "refused"),
        (999_999, "not_found"),
    ]
    assert "is complete; there is possible: nothing" in refused[0].message
    assert "is pending; there is possible: resolve, cancel" in refused[1].message
    (waits,) = steps(world, "resolve", ids["c"]).refused
    assert "still waits for 1 steps before it" in waits.message
    world.run()


def test_a_step_that_waits_for_its_retry_is_tried_at_once(world: World) -> None:
    retry = {"max_attempts": 3, "backoff_base_ms": 60_000, "max_backoff_ms": 60_000}
    world.publish(template("one", {"a": Node(retry=retry)}))
    busy = Word(status="failed", error=StepError(message="busy"))
    worker = world.worker(handler=lambda request: busy if request.metadata.attempt == 0 else Word())
    task = world.submit("one")
    world.tick(*world.work())
    assert world.states(task) == {"a": "waiting_for_retry"}
    steps(world, "retry", world.steps(task)["a"].workflow_step_id)
    assert len(worker.requests) == 2
    assert worker.requests[-1].metadata.attempt == 1
    world.run()


def test_a_cancelled_step_ends_its_task_in_error_once_nothing_else_can_proceed(
    world: World,
) -> None:
    world.publish(template("two", {"a": Node(), "b": Node(after=("a",)), "x": Node()}))
    world.worker()
    task = world.submit("two")
    step_id = world.steps(task)["b"].workflow_step_id
    assert steps(world, "cancel", step_id).changed == (step_id,)
    assert world.task(task).state == "in_progress"
    assert steps(world, "cancel", step_id).already == (step_id,)
    world.run()
    ended = world.task(task)
    assert (ended.state, ended.failed_steps) == ("error", 1)
    assert ended.error == {"failed_steps": [], "cancelled_steps": ["b"]}
    (refusal,) = tasks(world, "retry", task).refused
    assert "none of its steps stands in error; 1 were cancelled" in refusal.message


def test_cancelling_the_only_step_of_a_task_that_never_started_ends_it(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    task = world.submit("one")
    steps(world, "cancel", world.steps(task)["a"].workflow_step_id)
    assert world.task(task).state == "error"
    assert task_events(world, task) == ["create", "fail"]


def test_a_step_in_doubt_is_retried_resolved_or_cancelled_by_a_person(world: World) -> None:
    world.publish(template("one", {"a": Node(retry={"retryable": False})}))
    worker = world.worker()
    ids = world.submit_many("one", 3)
    worker.silent = True
    world.wait(world.tuning.session_dead_seconds + 1)
    assert {world.states(task)["a"] for task in ids} == {"in_doubt"}
    retried, resolved, cancelled = (world.steps(task)["a"].workflow_step_id for task in ids)
    steps(world, "retry", retried)
    steps(world, "resolve", resolved)
    steps(world, "cancel", cancelled)
    world.worker("berta")
    world.run()
    assert [world.task(task).state for task in ids] == ["complete", "complete", "error"]


def test_nothing_of_a_paused_task_starts_and_all_that_is_ready_starts_when_it_is_resumed(
    world: World,
) -> None:
    world.publish(template("fan", {"a": Node(), "b": Node(after=("a",)), "x": Node()}))
    worker = world.worker(concurrency=1, handlers=("tests.work",))
    task = world.submit("fan")
    sent = len(worker.requests)
    assert tasks(world, "pause", task).changed == (task,)
    assert tasks(world, "pause", task).already == (task,)
    world.tick(*world.work())  # what runs may end
    world.wait(60)
    assert len(worker.requests) == sent
    assert world.states(task)["b"] == "pending"
    assert world.task(task).paused
    assert tasks(world, "resume", task).changed == (task,)
    assert len(worker.requests) > sent
    world.run()
    assert world.task(task).state == "complete"
    (refusal,) = tasks(world, "pause", task).refused
    assert "is complete; can be paused: pending, in_progress" in refusal.message


def test_a_pause_in_the_very_tick_of_a_result_holds_the_next_step(world: World) -> None:
    world.publish(template("chain", CHAIN))
    worker = world.worker()
    task = world.submit("chain")
    frames = world.work()
    request = ControlTasks(action=TaskAction.PAUSE, task_ids=(task,), why=WHY, by=BY)
    world.tick(*frames, world.command("ControlTasks", request))
    world.wait(30)
    assert [each.step_name for each in worker.requests] == ["a"]
    tasks(world, "resume", task)
    world.run()


def test_a_retry_of_a_task_requeues_all_its_failed_steps(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node(), "c": Node(after=("a", "b"))}))
    shop = Shop("a", "b")
    world.worker(handler=shop)
    task = world.submit("two")
    world.run()
    shop.broken.clear()
    assert tasks(world, "retry", task).changed == (task,)
    world.run()
    assert world.task(task).state == "complete"
    assert {row.status for row in world.dead_letters()} == {"requeued"}
    (refusal,) = tasks(world, "retry", task).refused
    assert "is complete; can be retried" in refusal.message


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        ("ControlTasks", {"action": "cancel", "task_ids": [1], "why": "  ", "by": "x"}, "'why'"),
        ("ControlTasks", {"action": "cancel", "task_ids": [1], "why": "x"}, "'by' is empty"),
        ("ControlTasks", {"action": "cancel", "task_ids": [], "why": "x", "by": "x"}, "0 tasks"),
        ("ControlTasks", {"action": "stop", "task_ids": [1], "why": "x", "by": "x"}, "stop"),
        (
            "ControlSteps",
            {"action": "retry", "step_ids": list(range(1_001)), "why": "x", "by": "x"},
            "1001 steps",
        ),
        (
            "ControlSteps",
            {"action": "resolve", "step_ids": [1], "why": "x", "by": "x", "results": "x" * 16_384},
            "the results are 16386 bytes",
        ),
        ("DecideDeadLetters", {"action": "requeue", "why": "x", "by": "x"}, "either"),
        (
            "DecideDeadLetters",
            {"action": "discard", "why": "x", "by": "x", "filter": {"since": "soon"}},
            "since is 'soon'",
        ),
        (
            "DecideDeadLetters",
            {"action": "discard", "why": "x" * 1_001, "by": "x", "filter": {}},
            "1001 characters",
        ),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_with_what_was_wanted(
    world: World, kind: str, payload: dict[str, Any], said: str
) -> None:
    reply = world.ask(kind, msgspec.json.encode(payload))
    error = msgspec.json.decode(reply.payload.data, type=ErrorData)
    assert (error.code, said in error.message) == ("invalid", True), error.message


def test_a_task_that_another_living_core_runs_is_left_to_that_core(make_world: MakeWorld) -> None:
    first = make_world(core_id="core-1")
    first.publish(template("two", {"a": Node(), "x": Node()}))
    first.worker(handler=Shop("x"))
    task: TaskId = first.submit("two")
    frames = first.work()
    first.tick(*[frame for frame in frames if b'"failed"' in frame.frames[0]][:1])
    second = make_world(core_id="core-2", seed=2)
    broken = first.steps(task)["x"]
    assert (broken.state, first.states(task)["a"]) == ("error", "in_progress")
    (refusal,) = steps(second, "retry", broken.workflow_step_id).refused
    assert "daemon 'core-1' has steps of that task running" in refusal.message
    first.tick(*frames)
    assert first.task(task).state == "error"
    berta = second.worker("berta")
    assert steps(second, "retry", broken.workflow_step_id).changed == (broken.workflow_step_id,)
    assert [request.step_name for request in berta.requests] == ["x"]  # taken over, and sent
    second.run()
    ended = second.task(task)
    assert (ended.state, ended.processing_core_id) == ("complete", "core-2")
