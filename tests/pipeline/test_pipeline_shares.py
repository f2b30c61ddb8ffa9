"""When room is scarce: namespaces take turns, one that waits for nobody delays no other."""

from collections import Counter

import orjson

from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template


def publish(world: World, *namespaces: str, handler: str = "tests.work") -> None:
    for namespace in namespaces:
        made = template("single", {"a": Node(handler=handler)})
        world.publish({**made, "namespace_name": namespace})


def submit(world: World, namespace: str, count: int, *, priority: int = 0) -> None:
    context = orjson.dumps({"of": namespace})
    asked = world.request("single", context, namespace=namespace, priority=priority)
    world.tick(*(world.command("InitializeTask", asked) for _ in range(count)))


def in_hand(worker: SimulatedWorker) -> Counter[str]:
    """How many steps of each namespace it has."""
    return Counter(
        orjson.loads(bytes(step.task_context))["of"]
        for batch in worker.in_hand
        for step in batch.steps
    )


def test_namespaces_that_wait_get_equal_shares_of_scarce_room(world: World) -> None:
    publish(world, "big", "small", "tiny")
    submit(world, "big", 100)
    submit(world, "small", 30)
    submit(world, "tiny", 30)
    worker = world.worker(concurrency=6)
    for _ in range(7):
        world.tick()
        assert in_hand(worker) == {"big": 4, "small": 4, "tiny": 4}
        world.tick(*world.work())


def test_with_room_for_one_step_at_a_time_namespaces_take_turns_over_ticks(world: World) -> None:
    publish(world, "big", "small")
    submit(world, "big", 10)
    submit(world, "small", 10)
    worker = world.worker(concurrency=1)
    for _ in range(7):
        world.tick(*world.work())
    got = Counter(orjson.loads(bytes(each.task_context))["of"] for each in worker.requests)
    assert got == {"big": 7, "small": 7}


def test_what_is_urgent_comes_before_anybodys_turn(world: World) -> None:
    publish(world, "calm", "urgent")
    submit(world, "calm", 20)
    submit(world, "urgent", 20, priority=5)
    worker = world.worker(concurrency=6)
    world.tick()
    assert in_hand(worker) == {"urgent": 12}
    world.tick(*world.work())
    world.tick()
    assert in_hand(worker) == {"urgent": 8, "calm": 4}
