"""Two cores on one database: each outcome is applied by one of them."""

from sqlalchemy import Connection, Engine

from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld
from tests.store.meanwhile import meanwhile

PAIR = {"a": Node(), "b": Node(after=("a",))}


def two(make_world: MakeWorld) -> tuple[World, World]:
    return make_world(core_id="first"), make_world(core_id="second", seed=2)


def test_results_that_reach_two_cores_at_once_are_applied_by_one_and_duplicates_to_the_other(
    engine: Engine, make_world: MakeWorld
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    first.worker("anna")
    task = first.submit("pair")
    frames = first.work()
    now = first.clock.now()

    def tick(connection: Connection) -> None:
        second.ticking.run(connection, frames, now).changes.carry_out()

    with engine.connect() as connection:
        ticked = first.ticking.run(connection, frames, now)
        other = meanwhile(engine, tick)
        assert not other.done()
        connection.commit()
        other.result()
    ticked.changes.carry_out()
    assert first.verdicts() == ["applied", "applied", "duplicate", "duplicate"]
    assert first.steps(task)["a"].transitions == 3
    assert first.batches()[0].partial_results_received == 1


def test_one_identity_submitted_to_two_cores_is_one_task(make_world: MakeWorld) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    task = first.submit("pair", identity="order-7")
    assert second.submit("pair", identity="order-7") == task
    second.worker("bert")
    second.wait(1)
    assert first.states(task) == {"a": "pending", "b": "pending"}
    first.worker("anna")
    first.run()


def test_tasks_of_a_core_that_lives_are_left_to_it(make_world: MakeWorld) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    task = first.submit("pair")
    bert = second.worker("bert")
    for _ in range(5):
        first.wait(3)
        second.tick(*second.beats())
        second.wait(0.01)
    assert bert.requests == []
    assert first.task(task).processing_core_id == "first"
    second.wait(30)
    second.tick(*second.work())
    assert second.task(task).processing_core_id == "second"
    second.run()
    assert second.task(task).state == "complete"
