"""Tasks with a time, a mode, a workflow of their own; and what the answer tells beforehand."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.json import decode
from sqlalchemy import text

from tasker_zmq.commands.estimating import LOOK_EVERY
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.control import ControlTasks
from tasker_zmq.protocol.messages import StepRequest
from tasker_zmq.store.reads import workflows
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld
from tests.pipeline.explaining import explained

ONE = template("one", {"a": Node()})


def told(world: World, payload: bytes) -> dict[str, Any]:
    found: dict[str, Any] = decode(world.ask("InitializeTask", payload).payload.data)
    return found


def later(world: World, seconds: float) -> str:
    return (world.clock.now() + timedelta(seconds=seconds)).isoformat()


def test_a_scheduled_task_begins_at_its_time_and_not_before(world: World) -> None:
    world.publish(ONE)
    worker = world.worker()
    world.tick()
    at = later(world, 40.5)
    found = told(world, world.request("one", scheduled_for=at, execution_mode="scheduled"))
    assert found["scheduled_for"] == at
    task_id = TaskId(found["task_id"])
    world.wait(40)
    assert not worker.requests
    assert explained(world, task_id) == "It is scheduled to begin in 500 ms."
    world.wait(0.6)
    assert len(worker.requests) == 1
    world.run()
    assert world.task(task_id).state == "complete"
    assert world.task(task_id).processing_core_id == "core-1"


def test_a_time_that_is_over_is_now(world: World) -> None:
    world.publish(ONE)
    worker = world.worker()
    world.submit("one", scheduled_for=later(world, -60))
    assert len(worker.requests) == 1


def test_a_scheduled_task_begins_once_though_two_cores_look(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(ONE)
    workers = first.worker("anna"), second.worker("berta")
    first.tick(), second.tick()
    task_id = first.submit("one", scheduled_for=later(first, 60))
    assert first.task(task_id).processing_core_id is None
    first.clock.advance(61)
    for world in (second, first):
        world.tick(*world.beats())
    assert sum(len(each.requests) for each in workers) == 1
    assert first.task(task_id).processing_core_id == "second"
    second.run()


def test_a_core_that_dies_beforehand_is_no_loss(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second")
    first.publish(ONE)
    task_id = first.submit("one", scheduled_for=later(first, 10))
    second.worker()
    second.wait(11 + second.tuning.sweep_seconds)
    second.run()
    assert second.task(task_id).state == "complete"


def test_a_scheduled_task_can_be_paused_resumed_and_cancelled_beforehand(world: World) -> None:
    world.publish(ONE)
    worker = world.worker()
    held, cancelled = (world.submit("one", scheduled_for=later(world, 20)) for _ in range(2))
    for action, task_id in (
        (TaskAction.PAUSE, held),
        (TaskAction.RESUME, held),
        (TaskAction.CANCEL, cancelled),
    ):
        request = ControlTasks(action=action, task_ids=(task_id,), why="because", by="ann")
        reply = world.ask("ControlTasks", request)
        assert decode(reply.payload.data)["changed"] == [task_id]
    world.wait(19)
    assert not worker.requests
    world.wait(2)
    assert [each.task_id for each in worker.requests] == [held]
    world.run()
    assert world.task(cancelled).state == "cancelled"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"execution_mode": "scheduled"}, "scheduled_for names no time"),
        ({"execution_mode": "immediate", "scheduled_for": "2030-01-01T00:00:00Z"}, "immediate"),
        ({"execution_mode": "soon"}, "execution_mode"),
        ({"scheduled_for": "tomorrow"}, "ISO 8601 with its zone"),
        ({"scheduled_for": "2030-01-01T00:00:00"}, "ISO 8601 with its zone"),
        ({"scheduled_for": "2930-01-01T00:00:00Z"}, "of this century"),
    ],
)
def test_a_time_that_means_nothing_is_refused(
    world: World, more: dict[str, Any], said: str
) -> None:
    world.publish(ONE)
    found = told(world, world.request("one", **more))
    assert (found["code"], said in found["message"]) == ("invalid", True), found


def test_the_background_comes_behind_everything_else(world: World) -> None:
    world.publish(ONE)
    hidden = world.submit("one", execution_mode="background", priority="urgent")
    deeper = world.submit("one", execution_mode="background")
    lowest = world.submit("one", priority=-1_000_000)
    worker = world.worker()
    world.run()
    assert [each.task_id for each in worker.requests] == [lowest, hidden, deeper]


def test_the_answer_names_who_could_run_it_and_how_long_that_took_of_late(world: World) -> None:
    world.publish(ONE, template("other", {"a": Node(handler="tests.other")}))
    world.worker("zoe")
    world.worker("adam")
    world.worker("eve", handlers=("tests.other",))
    found = told(world, world.request("one"))
    assert found["candidate_workers"] == ["adam", "zoe"]
    assert found["estimated_duration_ms"] is None
    world.clock.advance(4)
    world.run()
    assert told(world, world.request("one"))["estimated_duration_ms"] is None
    world.clock.advance(LOOK_EVERY.total_seconds())
    world.tick(*world.beats())
    found = told(world, world.request("one"))
    assert 4_000 <= found["estimated_duration_ms"] <= 64_000
    assert told(world, world.request("other"))["estimated_duration_ms"] is None


def inline(world: World, workflow: object, **request: Any) -> bytes:
    del world
    return codec.encode({"task_request": request, "workflow": workflow})


DOUBLE = {
    "name": "double",
    "namespace_name": "tests",
    "version": "3.0.0",
    "steps": [
        {"name": "x", "handler": {"callable": "tests.work"}},
        {"name": "y", "handler": {"callable": "tests.work"}, "dependencies": ["x"]},
    ],
}


def test_a_task_may_bring_its_own_workflow(world: World) -> None:
    def number(request: StepRequest) -> Word:
        return Word(output=sorted(decode(request.previous_results)))

    world.worker(handler=number)
    found = told(world, inline(world, DOUBLE, context={"n": 1}))
    name, _, digits = found["named_task"].partition("+inline.")
    assert (name, len(digits)) == ("tests/double@3.0.0", 16)
    world.run()
    task_id = TaskId(found["task_id"])
    assert world.task(task_id).state == "complete"
    assert world.steps(task_id)["y"].results == ["x"]


def test_the_same_inline_workflow_is_the_same_definition_and_no_published_one(
    world: World,
) -> None:
    first, again = (told(world, inline(world, DOUBLE)) for _ in range(2))
    changed = {**DOUBLE, "steps": DOUBLE["steps"][:1]}
    other = told(world, inline(world, changed))
    assert first["named_task"] == again["named_task"] != other["named_task"]
    refused = told(world, world.request("double", version=None))
    assert refused["code"] == "not_found"
    with world.engine.connect() as connection:
        assert workflows.listed(connection) == []
        assert len(workflows.listed(connection, inline=True)) == 2
    by_name = first["named_task"].partition("@")[2]
    assert told(world, world.request("double", version=by_name))["step_count"] == 2
    world.publish({**DOUBLE, "version": "1.0.0"})
    assert told(world, world.request("double", version=None))["named_task"] == (
        "tests/double@1.0.0"
    )
    statement = "SELECT named_task_id FROM tasker_submissions"
    with world.engine.begin() as connection:
        connection.execute(text("SELECT tasker_submit_task('tests/double')"))
    assert world.rows(
        f"{statement} JOIN tasker_named_tasks n USING (named_task_id) WHERE n.version = '1.0.0'"
    )
    world.tick()


def test_name_and_namespace_may_stand_in_the_request_and_must_not_contradict(
    world: World,
) -> None:
    bare = {"steps": DOUBLE["steps"]}
    found = told(world, inline(world, bare, namespace="tests", name="bare"))
    assert found["named_task"].startswith("tests/bare@")
    found = told(world, inline(world, DOUBLE, name="triple"))
    assert (found["code"], "'triple'" in found["message"]) == ("invalid", True)


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ([1], "workflow"),
        ({**DOUBLE, "steps": []}, "steps"),
        ({**DOUBLE, "steps": [{"name": "x", "dependencies": ["gone"]}]}, "gone"),
    ],
)
def test_an_inline_workflow_is_checked_as_a_published_one(
    world: World, workflow: object, said: str
) -> None:
    found = told(world, inline(world, workflow))
    assert found["code"] in {"invalid", "invalid_workflow"}
    assert said in found["message"]
    assert not world.rows("SELECT 1 FROM tasker_named_tasks")


def test_an_inline_workflow_of_a_tick_that_is_rolled_back_is_not_remembered(world: World) -> None:
    command = world.command("InitializeTask", inline(world, DOUBLE))
    with world.engine.connect() as connection, connection.begin() as transaction:
        world.ticking.run(connection, [command], world.clock.now())
        transaction.rollback()
    world.worker()
    assert told(world, inline(world, DOUBLE))["step_count"] == 2
    world.run()
