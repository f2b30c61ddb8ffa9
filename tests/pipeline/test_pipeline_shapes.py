"""Workflows of every shape finish, and children get exactly what their parents returned."""

import pytest
from msgspec.json import decode

from tasker_zmq.protocol.messages import StepRequest
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template

CHAIN = {"a": Node(), "b": Node(after=("a",)), "c": Node(after=("b",)), "d": Node(after=("c",))}
DIAMOND = {
    "a": Node(),
    "b": Node(after=("a",)),
    "c": Node(after=("a",)),
    "d": Node(after=("b", "c")),
}
TREE = {
    "root": Node(),
    **{f"twig{i}": Node(after=("root",)) for i in range(3)},
    **{f"leaf{i}{j}": Node(after=(f"twig{i}",)) for i in range(3) for j in range(3)},
}
MIXED = {
    "a": Node(),
    "b": Node(),
    "c": Node(after=("a",)),
    "d": Node(after=("a", "b")),
    "e": Node(after=("c", "d", "b")),
    "f": Node(after=("d",)),
    "alone": Node(),
}
FAN = {
    "first": Node(),
    **{f"middle{i}": Node(after=("first",)) for i in range(100)},
    "last": Node(after=tuple(f"middle{i}" for i in range(100))),
}
SHAPES = {"chain": CHAIN, "diamond": DIAMOND, "tree": TREE, "mixed": MIXED, "fan": FAN}


def named(request: StepRequest) -> Word:
    """Returns its own name and the names of all that it was told of."""
    parents = decode(request.previous_results)
    return Word(output={"name": request.step_name, "told": sorted(parents)})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_workflow_of_this_shape_finishes_with_every_step_complete(
    world: World, shape: str
) -> None:
    nodes = SHAPES[shape]
    world.publish(template(shape, nodes))
    worker = world.worker(handler=named)
    task = world.submit(shape)
    world.run()
    assert world.task(task).state == "complete"
    assert set(world.states(task).values()) == {"complete"}
    for request in worker.requests:
        parents = nodes[request.step_name].after
        assert sorted(request.depends_on_steps) == sorted(parents)
        told = decode(request.previous_results)
        assert {name: each["name"] for name, each in told.items()} == {p: p for p in parents}
    assert len(worker.requests) == len(nodes)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_sent_only_when_all_its_parents_are_complete(world: World, shape: str) -> None:
    nodes = SHAPES[shape]
    world.publish(template(shape, nodes))
    task = world.submit(shape)
    too_early: list[str] = []

    def look(request: StepRequest) -> Word:
        states = world.states(task)
        too_early.extend(
            parent for parent in nodes[request.step_name].after if states[parent] != "complete"
        )
        return Word(output={})

    world.worker(handler=look)
    world.run()
    assert too_early == []


def test_a_half_finished_diamond_does_not_send_its_last_step(world: World) -> None:
    world.publish(template("diamond", DIAMOND))
    worker = world.worker()
    task = world.submit("diamond")
    world.tick(*world.work())
    batch = worker.batch()
    left, _ = batch.steps
    world.tick(worker.partial(batch, left.step_id, Word(output={})))
    assert worker.in_hand == []
    assert world.steps(task)["d"].unfinished_parents == 1
    worker.in_hand.append(batch)
    world.run()
    assert [request.step_name for request in worker.requests] == ["a", "b", "c", "d"]


OUTPUTS = (
    b'{"big":9007199254740993,"exact":1.10,"list":[1,2.0,-0.0,1e3]}',
    b'{"b":1,"a":2,"b":3}',
    b'{"escaped":"\\ud83d\\ude00 \\/ \\u00e9","plain":"\xc3\xa9"}',
    b"[ 1 ,\n\t2 ]",
    b"null",
    b"0",
    b'"text"',
)


@pytest.mark.parametrize("output", OUTPUTS)
def test_results_reach_children_to_the_byte(world: World, output: bytes) -> None:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    worker = world.worker(handler=lambda _: Word(output=output))
    world.submit("pair")
    world.run()
    child = worker.requests[-1]
    assert child.step_name == "b"
    told = bytes(child.previous_results)
    assert told.replace(b" ", b"").startswith(b'{"a":')
    assert output in told


def test_context_and_configuration_reach_every_step(world: World) -> None:
    one = template("one", {"a": Node()})
    one["steps"][0]["handler"]["initialization"] = {"depth": {"of": [1, "x"]}}
    world.publish(one)
    worker = world.worker()
    world.submit("one", {"order": 7, "lines": ["ä", None]})
    world.run()
    (request,) = worker.requests
    assert decode(request.task_context) == {"order": 7, "lines": ["ä", None]}
    assert decode(request.handler_config) == {"depth": {"of": [1, "x"]}}
    assert request.metadata.attempt == 0
    assert request.metadata.timeout_ms == 30_000


def test_many_tasks_share_batches_and_all_finish(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=named)
    tasks = world.submit_many("chain", 25)
    world.run()
    assert {world.task(task).state for task in tasks} == {"complete"}
    assert any(batch.task_id is None for batch in world.batches())
    assert all(batch.reconciliation_status == "consistent" for batch in world.batches())
