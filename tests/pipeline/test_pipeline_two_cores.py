"""Two cores on one database: each outcome is applied by one of them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.pipeline import neighbours
from tasker_zmq.pipeline.inbox import CoreEnded, StepsReady
from tasker_zmq.pipeline.upkeep import CoreLostError, forgive_absence
from tasker_zmq.protocol.commands import InHand
from tasker_zmq.store.notifications import listen, wait
from tasker_zmq.store.tables import Base
from tasker_zmq.store.workers import end_core
from tasker_zmq.testing.simulated_worker import SimulatedWorker, failing
from tasker_zmq.testing.world import Node, World, done, template
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


def test_what_a_dead_core_had_sent_is_taken_over_and_its_workers_results_count(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna")
    task = first.submit("pair")
    batch = anna.batch()
    second.wait(second.tuning.core_lease_seconds + 0.5)  # the first one ticks no more
    assert second.batches()[0].core_id == second.task(task).processing_core_id == "second"
    again = second.worker("anna", in_hand=(InHand(batch_id=batch.batch_id),))
    second.tick(*SimulatedWorker("anna", again.session_id, handler=done, route=()).answers(batch))
    second.run()
    assert second.task(task).state == "complete"
    assert [row.attempts for row in second.steps(task).values()] == [1, 1]


def test_what_is_claimed_behind_a_sweep_that_is_under_way_is_found_by_the_next(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    task = first.submit("pair")
    second.worker("bert")
    second.clock.advance(second.tuning.core_lease_seconds + 0.5)
    second.state.sweep_cursor = (0, task + 100)
    second.tick(*second.beats())
    assert second.task(task).processing_core_id == "second"
    second.run()
    assert second.task(task).state == "complete"


def test_steps_whose_worker_died_with_its_core_go_elsewhere(make_world: MakeWorld) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    first.worker("anna")
    task = first.submit("pair")
    bert = second.worker("bert")
    started = second.clock.now()
    while not bert.requests:
        second.wait(0.5)
        second.tick(*second.beats())
    tuning = second.tuning
    assert (second.clock.now() - started).total_seconds() <= (
        tuning.core_lease_seconds + tuning.session_dead_seconds + 2
    )
    second.run()
    assert second.task(task).state == "complete"
    assert second.steps(task)["a"].losses == 1


def test_a_core_that_ends_properly_is_succeeded_at_once(make_world: MakeWorld) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    task = first.submit("pair")
    second.worker("bert")
    with first.engine.begin() as connection:
        end_core(connection, first.core_id, first.state.epoch, now=first.clock.now())
    assert second.task(task).processing_core_id == "first"
    second.tick(CoreEnded())
    assert second.task(task).processing_core_id == "second"
    second.run()
    assert second.task(task).state == "complete"


def everything(world: World) -> list[Any]:
    """All rows of all tables."""
    return [
        world.rows(f"SELECT * FROM {table.name} t ORDER BY t::text")  # noqa: S608
        for table in Base.metadata.sorted_tables
    ]


def test_a_core_that_slept_until_it_was_succeeded_writes_nothing_more(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna")
    task = first.submit("pair")
    batch = anna.batch()
    second.wait(second.tuning.core_lease_seconds + 0.5)
    before = everything(second)
    with pytest.raises(CoreLostError):
        first.tick(*anna.answers(batch))  # it wakes
    assert everything(second) == before
    first.start()  # somebody starts it again
    first.tick()
    second.worker("bert")
    second.wait(40)
    second.run()
    assert second.task(task).state == "complete"


def test_a_core_that_slept_and_was_not_succeeded_goes_on(make_world: MakeWorld) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    first.worker("anna")
    second.tick()
    task = first.submit("pair")
    first.clock.advance(first.tuning.core_lease_seconds + 1)
    forgive_absence(first.state, timedelta(seconds=11), first.clock.now())
    first.run()
    assert first.task(task).state == "complete"


def test_after_an_outage_for_all_nobody_is_succeeded_who_had_no_time_to_come_back(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    first.worker("anna")
    task = first.submit("pair")
    outage = timedelta(seconds=60)
    second.clock.advance(60)
    for core in (first, second):
        forgive_absence(core.state, outage, core.clock.now())
    second.tick()  # the first one that is back
    assert second.task(task).processing_core_id == "first"
    first.run()
    assert first.task(task).state == "complete"


def test_a_step_that_another_core_postponed_is_tried_again_by_the_owner_of_its_task(
    engine: Engine, make_world: MakeWorld
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna", handler=lambda _: failing("not now"))
    task = first.submit("pair")
    with engine.connect() as connection:
        listen(connection, [neighbours.CHANNEL])
        second.tick(*first.work())
        (heard,) = wait(connection, 20)
    assert second.steps(task)["a"].state == "waiting_for_retry"
    assert first.state.next_retry_at is None
    told = neighbours.understand(heard[1], first.core_id)
    assert told is not None
    first.tick(told)
    assert first.state.next_retry_at == first.steps(task)["a"].next_attempt_at
    anna.handler = done
    first.run()
    assert first.task(task).state == "complete"


def test_a_batch_that_came_to_another_core_with_its_worker_has_its_deadline_there(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna")
    first.submit("pair")
    batch = anna.batch()
    again = second.worker("anna", in_hand=(InHand(batch_id=batch.batch_id),))
    ((batch_id,),) = second.rows("SELECT batch_id FROM tasker_step_execution_batches")
    assert batch_id in second.state.deadlines
    again.silent = True  # it takes another one, and never says anything of the first
    first.clock.advance(1)
    back = first.worker("anna", in_hand=(InHand(batch_id=batch.batch_id),))
    assert [key for key, each in first.state.sessions.items() if each.holding] == [back.session_id]
    first.tick(*SimulatedWorker("anna", back.session_id, handler=done, route=()).answers(batch))
    first.run()


def recorded_by_the_other(make_world: MakeWorld) -> tuple[World, World, TaskId]:
    """A result for a task of the first core that reached the second one."""
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    first.worker("anna")
    task = first.submit("pair")
    frames = first.work()
    first.tick()
    second.tick(*frames)
    assert second.steps(task)["a"].state == "complete"
    return first, second, task


def test_the_owner_is_told_of_steps_that_another_core_made_ready(
    engine: Engine, make_world: MakeWorld
) -> None:
    with engine.connect() as connection:
        listen(connection, [neighbours.CHANNEL])
        first, second, task = recorded_by_the_other(make_world)
        (heard,) = wait(connection, 20)
    assert neighbours.understand(heard[1], second.core_id) is None
    told = neighbours.understand(heard[1], first.core_id)
    assert told == StepsReady((task,))
    first.tick(told)
    assert [each.step_name for each in first.workers[0].requests] == ["a", "b"]
    first.run()
    assert first.task(task).state == "complete"


def test_a_word_that_is_not_heard_costs_time_and_no_more(make_world: MakeWorld) -> None:
    first, second, task = recorded_by_the_other(make_world)
    for _ in range(10):
        first.wait(3)
        second.tick()
    first.run()
    assert first.task(task).state == "complete"


@given(st.text(max_size=20))
def test_nonsense_on_the_channel_says_nothing(payload: str) -> None:
    told = neighbours.understand(payload, CoreId("first"))
    assert told is None or payload.startswith("first ")


def test_what_was_taken_over_by_a_commit_of_unknown_outcome_may_well_run(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna")
    task = first.submit("pair")
    batch = anna.batch()
    second.tick()
    second.clock.advance(second.tuning.core_lease_seconds + 1)
    second.state.next_sweep_at = None
    with second.engine.begin() as connection:
        second.ticking.run(connection, (), second.clock.now())
    second.state.unsure = True  # and what the tick wanted remembered is lost
    second.tick()
    assert second.steps(task)["a"].state == "in_progress"
    again = second.worker("anna", in_hand=(InHand(batch_id=batch.batch_id),))
    second.tick(*SimulatedWorker("anna", again.session_id, handler=done, route=()).answers(batch))
    second.run()
    assert [row.attempts for row in second.steps(task).values()] == [1, 1]


@pytest.mark.parametrize(("instance", "verdict"), [("life-1", "applied"), ("life-2", "rejected")])
def test_a_process_is_heard_by_whichever_of_its_sessions_it_speaks(
    make_world: MakeWorld, instance: str, verdict: str
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna", connection_info={"instance": "life-1"})
    first.submit("pair")
    batch = anna.batch()
    now_hers = second.worker(
        "anna",
        in_hand=(InHand(batch_id=batch.batch_id),),
        connection_info={"instance": instance},
    )
    first.tick(*anna.answers(batch)[:1])
    assert first.verdicts() == [verdict]
    again = SimulatedWorker("anna", now_hers.session_id, handler=done, route=())
    second.tick(*again.answers(batch))
    for _ in range(10):
        first.wait(3)
        second.tick(*second.beats(), *second.work())


def test_what_another_core_has_taken_over_frees_its_place_in_the_end(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("pair", PAIR))
    anna = first.worker("anna", connection_info={"instance": "life-1"})
    first.submit("pair")
    batch = anna.batch()
    second.worker(
        "anna",
        in_hand=(InHand(batch_id=batch.batch_id),),
        connection_info={"instance": "life-1"},
    )
    second.tick(*anna.answers(batch))
    assert first.session(anna).holding
    while len(first.state.deadlines):
        first.wait(5)
        first.tick(*first.beats())
    assert not first.session(anna).holding
