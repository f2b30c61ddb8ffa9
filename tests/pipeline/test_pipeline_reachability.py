"""Whom a core reaches: written together and seldom, known for a while, gone with worker or core."""

from typing import Any

import pytest

from tasker_zmq.pipeline.inbox import CoreEnded, SubscriptionSeen
from tasker_zmq.pipeline.reached import WRITTEN_AFTER
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.protocol.commands import WorkerGoodbye
from tasker_zmq.store.workers import end_core
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld
from tests.pipeline.explaining import explained

ONE = template("one", {"a": Node()})
SOON = WRITTEN_AFTER.total_seconds() + 0.1


def rows(world: World) -> dict[str, Any]:
    """What is written of this core, by worker."""
    found = world.rows(
        "SELECT worker_name, is_reachable, last_verified_at, t.xmin::text AS written_by "
        "FROM tasker_worker_transport_availability t JOIN tasker_workers USING (worker_id) "
        "WHERE core_id = :core AND transport_type = 'zeromq'",
        core=world.core_id,
    )
    return {row.worker_name: row for row in found}


def reached(world: World) -> dict[str, bool]:
    world.wait(SOON)
    return {name: row.is_reachable for name, row in rows(world).items()}


def candidates(world: World) -> list[str]:
    found = world.rows(
        "SELECT worker_name FROM tasker_named_tasks, "
        "tasker_candidate_workers(named_task_id, :core, :now)",
        core=world.core_id,
        now=world.clock.now(),
    )
    return [row.worker_name for row in found]


def age(world: World) -> None:
    """As if nobody had looked for some minutes."""
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE tasker_worker_transport_availability "
            "SET last_verified_at = last_verified_at - interval '6 minutes'"
        )


def unsubscribe(world: World, worker: SimulatedWorker) -> None:
    world.tick(SubscriptionSeen(worker.topic, subscribed=False))


def test_a_worker_is_reached_once_its_subscription_is_seen(world: World) -> None:
    anna = world.worker("anna", subscribed=False)
    assert reached(world) == {"anna": False}
    world.subscribe(anna)
    assert reached(world) == {"anna": True}
    assert rows(world)["anna"].last_verified_at <= world.clock.now()


def test_a_worker_whose_subscription_went_is_not_reached_until_it_comes_back(world: World) -> None:
    anna = world.worker("anna")
    assert reached(world) == {"anna": True}
    unsubscribe(world, anna)
    assert reached(world) == {"anna": False}
    world.subscribe(anna)
    assert reached(world) == {"anna": True}


def test_a_worker_with_two_processes_is_reached_by_one_of_them(world: World) -> None:
    first, second = world.worker("anna"), world.worker("anna")
    unsubscribe(world, first)
    assert reached(world) == {"anna": True}
    unsubscribe(world, second)
    assert reached(world) == {"anna": False}


def test_a_deaf_worker_is_not_reached(world: World) -> None:
    world.publish(ONE)
    anna = world.worker("anna")
    anna.hears = False
    world.submit("one")
    assert reached(world) == {"anna": True}
    while not world.session(anna).deaf:
        world.wait(1)
    assert reached(world) == {"anna": False}
    assert world.session(anna).subscribed


def test_who_fell_silent_is_not_reached_and_of_who_said_goodbye_nothing_is_known(
    world: World,
) -> None:
    anna, bert = world.worker("anna"), world.worker("bert")
    assert reached(world) == {"anna": True, "bert": True}
    anna.silent = True
    world.workers.remove(bert)
    assert bert.session_id
    world.tick(world.command("WorkerGoodbye", WorkerGoodbye(session_id=bert.session_id)))
    world.wait(world.tuning.session_dead_seconds + 1)
    assert reached(world) == {"anna": False}
    world.worker("anna")
    assert reached(world) == {"anna": True}


def test_in_most_ticks_nothing_is_written_and_once_a_minute_all_in_one_statement(
    world: World,
) -> None:
    for name in ("anna", "bert", "carl"):
        world.worker(name)
    world.wait(SOON)
    before = rows(world)
    world.wait(50)
    assert rows(world) == before
    world.wait(15)
    after = rows(world)
    assert len({row.written_by for row in after.values()}) == 1
    assert all(after[name].last_verified_at > before[name].last_verified_at for name in before)


def test_many_that_register_are_written_in_one_statement(world: World) -> None:
    workers = [world.worker(f"worker{number}", subscribed=False) for number in range(5)]
    world.tick(*(SubscriptionSeen(each.topic, subscribed=True) for each in workers))
    world.wait(SOON)
    assert len({row.written_by for row in rows(world).values()}) == 1
    assert set(reached(world).values()) == {True}


def test_what_changes_in_the_tick_that_writes_is_written_by_another_that_is_soon_due(
    world: World,
) -> None:
    anna = world.worker("anna")
    world.clock.advance(SOON)
    unsubscribe(world, anna)
    assert rows(world)["anna"].is_reachable
    now = world.clock.now()
    assert next_due(world.state, world.tuning, now) <= now + WRITTEN_AFTER
    assert reached(world) == {"anna": False}


def test_a_tick_that_is_rolled_back_leaves_what_it_would_have_written_to_the_next(
    world: World,
) -> None:
    world.worker("anna")
    world.clock.advance(SOON)
    with world.engine.connect() as connection:
        world.ticking.run(connection, world.beats(), world.clock.now())
        connection.rollback()
    assert rows(world) == {}
    world.tick()
    assert reached(world) == {"anna": True}


@pytest.mark.parametrize("ends", ["stops", "starts again", "is taken over"])
def test_what_is_written_of_a_core_goes_with_it(make_world: MakeWorld, ends: str) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    second.worker("anna")
    second.publish(ONE)
    first.worker("anna")
    first.submit("one")
    assert reached(first) == reached(second) == {"anna": True}
    if ends == "stops":
        with first.engine.begin() as connection:
            end_core(connection, first.core_id, first.state.epoch, now=first.clock.now())
    elif ends == "starts again":
        first.start(predecessor_gone=True)
    else:
        second.wait(first.tuning.core_lease_seconds + 1)
    assert rows(first) == {}
    assert reached(second) == {"anna": True}
    if ends != "starts again":
        second.tick(CoreEnded())
    second.run()


def test_a_word_of_an_older_epoch_leaves_the_rows_of_the_core_that_runs(world: World) -> None:
    world.worker("anna")
    assert reached(world) == {"anna": True}
    with world.engine.begin() as connection:
        end_core(connection, world.core_id, world.state.epoch - 1, now=world.clock.now())
    assert reached(world) == {"anna": True}


def test_it_is_explained_that_a_worker_is_not_reachable_from_the_core_that_owns_the_task(
    make_world: MakeWorld,
) -> None:
    first, second = make_world(core_id="core-1"), make_world(core_id="core-2", seed=2)
    second.publish(ONE)
    task = second.submit("one")
    here, there = first.worker("anna"), second.worker("anna", concurrency=1, subscribed=False)
    there.silent = True
    _both_wait(first, second, second.tuning.session_dead_seconds + 2)
    assert "one worker knows it: anna is not reachable from core-2." in explained(second, task)
    age(second)
    assert "one worker knows it: anna is not connected to core-2." in explained(second, task)
    assert first.session(here).room(first.clock.now())
    second.worker("bert")
    second.run()


def _both_wait(first: World, second: World, seconds: float) -> None:
    """By turns, for one world's clock is the other's."""
    until = first.clock.now().timestamp() + seconds
    while first.clock.now().timestamp() < until:
        first.wait(1.0)
        second.tick(*second.beats())


def test_sql_does_not_choose_who_is_not_reached_while_that_is_news(world: World) -> None:
    world.publish(ONE)
    anna = world.worker("anna")
    world.wait(SOON)
    assert candidates(world) == ["anna"]
    unsubscribe(world, anna)
    world.wait(SOON)
    assert candidates(world) == []
    age(world)
    assert candidates(world) == ["anna"]
