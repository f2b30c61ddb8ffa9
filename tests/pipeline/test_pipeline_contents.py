"""Requests made from memory are those that the rows would make, and no row is overruled by it."""

import orjson
import pytest
from sqlalchemy import text

from tasker_zmq.protocol.messages import StepRequest
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, template

DIAMOND = {
    "a": Node(),
    "b": Node(after=("a",)),
    "c": Node(after=("a",)),
    "d": Node(after=("b", "c")),
}
CONTEXT = {"order": '\u2603 "quoted"', "lines": [1, 2.5, None]}


def told(request: StepRequest) -> dict[str, object]:
    """What a handler can see of a request."""
    return {
        "step": request.step_name,
        "context": orjson.loads(bytes(request.task_context)),
        "results": orjson.loads(bytes(request.previous_results)),
        "attempt": request.metadata.attempt,
        "retry_limit": request.metadata.retry_limit,
    }


def sometimes(request: StepRequest) -> Word:
    """Step b succeeds at its second attempt."""
    if request.step_name == "b" and request.metadata.attempt == 0:
        return failing()
    return Word(output={"from": request.step_name, "text": "\u00e9\n"})


def run(world: World, worker: SimulatedWorker, *, remember: bool) -> list[dict[str, object]]:
    before = len(worker.requests)
    world.submit("diamond", CONTEXT)
    while not world.at_rest:
        if not remember:
            world.state.contents.clear()
        frames = world.work()
        world.tick(*frames)
        if not frames:
            world.wait(1)
    return [told(request) for request in worker.requests[before:]]


def test_a_worker_is_sent_the_same_from_memory_as_from_rows(world: World) -> None:
    world.publish(template("diamond", DIAMOND))
    worker = world.worker(handler=sometimes)
    from_memory = run(world, worker, remember=True)
    assert from_memory == run(world, worker, remember=False)
    assert [each["step"] for each in from_memory] == ["a", "b", "c", "b", "d"]


def test_fresh_children_are_sent_without_being_read_back(world: World) -> None:
    world.publish(template("diamond", DIAMOND))
    worker = world.worker()
    task = world.submit("diamond", CONTEXT)
    with world.engine.begin() as connection:  # what is read back from now on would show it
        connection.execute(text("UPDATE tasker_tasks SET context = '{}'"))
    world.run()
    assert [told(request)["context"] for request in worker.requests] == [CONTEXT] * 4
    assert world.task(task).state == "complete"
    assert len(world.state.contents) == 0


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE tasker_tasks SET paused = true",
        "UPDATE tasker_tasks SET processing_core_id = NULL",
        "UPDATE tasker_workflow_steps SET next_attempt_at = '2100-01-01' WHERE name = 'b'",
    ],
)
def test_a_step_that_may_not_be_sent_any_more_stays_though_memory_offers_it(
    world: World, meanwhile: str
) -> None:
    world.publish(template("diamond", DIAMOND))
    worker = world.worker()
    task = world.submit("diamond", CONTEXT)
    with world.engine.begin() as connection:
        connection.execute(text(meanwhile))
    world.tick(*world.work())
    assert "b" not in [request.step_name for request in worker.requests]
    assert world.states(task)["a"] == "complete"
    assert world.states(task)["b"] == "pending"
