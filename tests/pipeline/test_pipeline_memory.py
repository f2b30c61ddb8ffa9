"""A core's memory is only a cache: it may be tiny or lost, but it is never half true."""

import copy
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import Received
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.store.sweeping import SWEEP_START
from tasker_zmq.testing.simulated_worker import Word, failing
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

PAIR = {"a": Node(), "b": Node(after=("a",))}
WIDE = {f"step{number}": Node() for number in range(12)}


def remembered(state: CoreState) -> dict[str, Any]:
    """All of a core's memory that can be compared; caches of what never changes are left out."""
    left_out = {"viable", "definitions", "_steps", "_ids"}
    kept = {name: value for name, value in vars(state).items() if name not in left_out}
    for name in ("deadlines", "unreconciled"):
        kept[name] = dict(kept[name]._due)
    kept["viable"] = (set(state.viable._places), state.viable.overflowed)
    return copy.deepcopy(kept)


class AccidentError(Exception):
    pass


def break_off(world: World, *received: Received) -> None:
    """A tick whose transaction fails at its end."""
    with suppress(AccidentError), world.engine.begin() as connection:
        world.ticking.run(connection, received, world.clock.now())
        raise AccidentError


@pytest.mark.parametrize("steps_max", [1, 2, 7])
def test_more_viable_steps_than_memory_holds_are_all_found_by_the_sweep(
    make_world: MakeWorld, steps_max: int
) -> None:
    world = make_world(steps_max=steps_max, tuning=Tuning(sweep_tasks_max=3))
    world.publish(template("wide", WIDE))
    tasks = world.submit_many("wide", 20)
    assert len(world.state.viable) <= steps_max
    world.worker(concurrency=8)
    world.run()
    assert {world.task(task).state for task in tasks} == {"complete"}


@pytest.mark.parametrize("restarted", [False, True])
def test_steps_that_nobody_runs_keep_no_other_waiting(
    make_world: MakeWorld, *, restarted: bool
) -> None:
    world = make_world(steps_max=6, tuning=Tuning(sweep_tasks_max=3))
    nobody = {f"step{number}": Node(handler="tests.nobody") for number in range(3)}
    world.publish(template("stuck", nobody), template("wide", WIDE))
    world.submit_many("stuck", 10)
    tasks = world.submit_many("wide", 2)
    if restarted:
        world.restart()
    world.worker(concurrency=8)
    for _ in range(200):
        frames = world.work()
        world.tick(*frames)
        if all(world.task(task).state == "complete" for task in tasks):
            break
        if not frames:
            world.wait(1)
    assert {world.task(task).state for task in tasks} == {"complete"}


@pytest.fixture
def crowded(make_world: MakeWorld) -> World:
    """Memory is full of one step of many tasks, and nobody runs it."""
    world = make_world(steps_max=6)
    world.publish(template("one", {"a": Node()}))
    world.submit_many("one", 20)
    world.state.viable.overflowed = False
    return world


def test_what_a_sweep_passes_over_as_more_of_the_same_is_found_later(crowded: World) -> None:
    crowded.state.sweep_cursor = SWEEP_START
    crowded.wait(10)
    assert len(crowded.state.viable) == 6
    crowded.worker()
    crowded.run()
    assert {row.state for row in crowded.rows("SELECT state FROM tasker_tasks")} == {"complete"}


def test_a_more_urgent_step_of_the_same_kind_is_not_passed_over(crowded: World) -> None:
    urgent = crowded.rows("SELECT max(task_id) FROM tasker_tasks")[0][0]
    with crowded.engine.begin() as connection:
        connection.execute(
            text("UPDATE tasker_tasks SET priority = 5 WHERE task_id = :t"), {"t": urgent}
        )
    crowded.state.sweep_cursor = SWEEP_START
    crowded.wait(1)
    worker = crowded.worker(concurrency=1)
    crowded.run()
    assert worker.requests[0].task_id == urgent


def test_a_sweep_that_finds_what_is_known_already_sends_nothing_twice(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0))
    world.publish(template("wide", WIDE))
    worker = world.worker(concurrency=6)
    world.submit_many("wide", 2)
    frames = world.work()
    world.tick(*frames)
    world.state.sweep_cursor = (-(1 << 31), 0)
    world.tick()
    sent = [request.step_id for request in worker.requests]
    assert len(sent) == len(set(sent)) == 12
    world.run()
    assert len(worker.requests) == 24


def test_a_task_created_in_the_tick_of_a_sweep_is_sent_once(world: World) -> None:
    world.publish(template("wide", WIDE))
    worker = world.worker()
    world.state.sweep_cursor = (-(1 << 31), 0)
    world.submit("wide")
    world.run()
    assert len(worker.requests) == 12


def test_a_tick_that_is_rolled_back_leaves_no_trace_and_can_be_run_again(world: World) -> None:
    world.publish(template("pair", PAIR), template("wide", WIDE))
    unlucky = set[TaskId]()
    world.worker(handler=lambda request: failing() if request.task_id in unlucky else Word())
    unlucky.update(world.submit_many("pair", 3)[::2])
    world.submit("wide")
    inbox: list[Received] = [*world.work(), *world.beats()]
    inbox.append(world.command("InitializeTask", world.request("wide")))
    before = remembered(world.state)
    rows = world.rows("SELECT task_id, state, transitions FROM tasker_tasks ORDER BY 1")
    break_off(world, *inbox)
    assert remembered(world.state) == before
    assert world.rows("SELECT task_id, state, transitions FROM tasker_tasks ORDER BY 1") == rows
    assert world.ledger() == []
    world.tick(*inbox)
    assert set(world.verdicts()) == {"applied"}
    world.run()


def test_a_workflow_whose_publication_was_rolled_back_is_not_remembered(world: World) -> None:
    body = {"templates": [template("pair", PAIR)]}
    inbox = (
        world.command("PublishTemplates", body),
        world.command("InitializeTask", world.request("pair")),
    )
    break_off(world, *inbox)
    reply = world.ask("InitializeTask", world.request("pair"))
    assert b"not_found" in bytes(reply.payload.data)
    world.publish(template("pair", PAIR))
    world.worker()
    task = world.submit("pair")
    world.run()
    assert world.task(task).state == "complete"


def test_a_new_process_finishes_what_the_former_one_left(world: World) -> None:
    world.publish(template("pair", PAIR), template("wide", WIDE))
    world.worker("anna", handler=lambda request: failing() if request.step_id % 3 else Word())
    tasks = [*world.submit_many("pair", 4), world.submit("wide")]
    world.tick(*world.work())
    world.workers.clear()
    world.restart()
    assert len(world.state.viable) == 0
    world.worker("bert")
    world.run()
    assert {world.task(task).state for task in tasks} == {"complete"}


def test_a_restart_between_commit_and_sending_loses_nothing(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker("anna")
    task = world.submit("pair")
    worker.in_hand.clear()  # it was never sent
    world.restart()
    world.worker("anna")
    world.run()
    assert world.task(task).state == "complete"


def test_results_that_come_after_a_restart_from_before_it_are_applied(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker("anna")
    task = world.submit("pair")
    frames = world.work()
    world.restart()
    world.tick(*frames)
    assert world.states(task) == {"a": "complete", "b": "pending"}
    worker.silent = True
    world.worker("bert")
    world.run()


def test_a_retry_that_fell_due_while_nobody_ran_is_taken_up(world: World) -> None:
    world.publish(template("one", {"a": Node(retry={"backoff_base_ms": 5_000})}))
    world.worker("anna", handler=lambda _: failing())
    task = world.submit("one")
    world.tick(*world.work())
    assert world.states(task) == {"a": "waiting_for_retry"}
    world.workers.clear()
    world.restart()
    world.worker("bert")
    world.run()
    assert world.states(task) == {"a": "complete"}


def test_another_core_takes_over_the_tasks_of_a_dead_one_with_their_retries(
    make_world: MakeWorld,
) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(template("one", {"a": Node(retry={"backoff_base_ms": 30_000})}))
    first.worker("anna", handler=lambda _: failing())
    waiting = first.submit("one")
    first.tick(*first.work())
    fresh = first.submit("one")
    first.workers[0].in_hand.clear()
    assert first.states(waiting) == {"a": "waiting_for_retry"}
    second.worker("bert")
    second.wait(60)
    second.tick(*second.work())
    second.wait(10)
    assert second.states(waiting) == {"a": "complete"}
    assert second.task(fresh).processing_core_id == "second"


def test_a_core_does_not_stay_awake_for_the_retries_of_another(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(template("one", {"a": Node(retry={"backoff_base_ms": 1_000})}))
    first.worker("anna", handler=lambda _: failing())
    second.worker("bert", handler=lambda _: failing())
    theirs = first.submit("one")
    ours = second.submit("one")
    first.tick(*first.work())
    second.tick(*second.work())
    second.wait(3)
    assert first.states(theirs) == {"a": "waiting_for_retry"}
    assert second.states(ours) == {"a": "in_progress"}
    assert second.state.next_retry_at is None


def test_a_core_that_runs_for_months_still_records(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    for _ in range(10):
        world.clock.advance(8 * 24 * 3_600)
        world.tick()
        world.workers.clear()
        world.worker()
        task = world.submit("one")
        world.run()
        assert world.task(task).state == "complete"


def test_a_message_that_comes_weeks_after_the_last_tick_finds_its_partition(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    world.worker()
    world.submit("one")
    frames = world.work()
    world.clock.advance(10 * 7 * 24 * 3_600)
    world.tick(*frames)
    assert set(world.verdicts()) == {"applied"}
    world.run()
