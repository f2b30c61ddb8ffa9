"""A worker with a session at each of several cores: what it is told, what it grants, who has it."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import CoreEnded, CoreStarted
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    HeartbeatReceived,
    InHand,
    WorkerHeartbeat,
    WorkerRegistered,
)
from tasker_zmq.protocol.messages import StepBatch
from tasker_zmq.store.notifications import listen, wait
from tasker_zmq.store.workers import CORES_CHANNEL, STARTED, end_core
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld
from tests.store.meanwhile import meanwhile

SINGLE = {"a": Node()}
WIDE = {f"s{n}": Node() for n in range(12)}


def two(make_world: MakeWorld) -> tuple[World, World]:
    """Two cores, the first of which has sent a step to anna."""
    return make_world(core_id="first"), make_world(core_id="second", seed=2)


def named(cores: Sequence[object]) -> list[tuple[str, str]]:
    return [(each.core_id, each.commands) for each in cores]  # type: ignore[attr-defined]


def beat(world: World, worker: SimulatedWorker, *, credit: int | None = None) -> HeartbeatReceived:
    assert worker.session_id is not None
    said = WorkerHeartbeat(
        session_id=worker.session_id,
        in_hand=worker.claims(),
        credit=credit,
    )
    reply = world.ask("WorkerHeartbeat", said)
    return codec.decode_data(reply.payload.data, HeartbeatReceived)


def in_hand(batch: StepBatch) -> InHand:
    return InHand(
        batch_id=batch.batch_id, step_ids=tuple(request.step_id for request in batch.steps)
    )


def sent_by_the_first(
    make_world: MakeWorld,
) -> tuple[World, World, SimulatedWorker, TaskId]:
    first, second = two(make_world)
    first.publish(template("single", SINGLE))
    anna = first.worker("anna")
    return first, second, anna, first.submit("single")


def moved(second: World, anna: SimulatedWorker, *batches: StepBatch) -> SimulatedWorker:
    """Anna's process is at the second core now, with these batches."""
    assert anna.session_id is not None
    again = second.worker(
        "anna",
        handler=anna.handler,
        former_session_ids=(anna.session_id,),
        in_hand=tuple(in_hand(each) for each in batches),
    )
    for each in batches:
        again.take(each)
    anna.silent = True
    return again


def pass_time(seconds: float, *worlds: World) -> None:
    """Let time pass for several cores that live."""
    for _ in range(round(seconds)):
        worlds[0].wait(1.0)
        for each in worlds[1:]:
            each.tick(*each.beats())


def test_what_never_reached_a_process_that_left_a_core_is_sent_anew_as_soon_as_that_one_is_dead(
    make_world: MakeWorld,
) -> None:
    first, second = two(make_world)
    first.publish(template("single", SINGLE))
    anna = first.worker("anna")
    arrived = first.submit("single")
    anna.hears = False
    lost = first.submit("single")
    again = moved(second, anna, anna.batch())
    second.wait(second.tuning.core_lease_seconds + 0.5)
    assert [request.task_id for request in again.requests] == [arrived, lost]
    second.run()
    assert [second.steps(task)["a"].losses for task in (arrived, lost)] == [0, 1]


def test_what_a_dead_core_sent_to_somebody_who_has_not_come_yet_waits_for_him(
    make_world: MakeWorld,
) -> None:
    _, second, anna, task = sent_by_the_first(make_world)
    second.worker("anna")  # another process of that name
    second.wait(second.tuning.core_lease_seconds + 0.5)
    assert second.states(task) == {"a": "in_progress"}
    again = moved(second, anna, anna.batch())
    second.run()
    assert [request.task_id for request in again.requests] == [task]
    assert second.steps(task)["a"].losses == 0


def test_workers_are_told_of_the_cores_that_live(engine: Engine, make_world: MakeWorld) -> None:
    first, second = two(make_world)
    anna = second.worker("anna")
    told = codec.decode_data(second.letters[-1][1].payload.data, WorkerRegistered)
    both = [("first", "ipc://first"), ("second", "ipc://second")]
    assert named(told.cores) == named(beat(second, anna).cores) == both
    with engine.begin() as connection:
        end_core(connection, first.core_id, first.state.epoch, now=first.clock.now())
    second.tick(CoreEnded())
    assert named(beat(second, anna).cores) == both[1:]
    with engine.connect() as connection:
        listen(connection, [CORES_CHANNEL])
        first.start()
        assert wait(connection, 20) == [(CORES_CHANNEL, f"first{STARTED}")]
    second.tick(CoreStarted())
    assert named(beat(second, anna).cores) == both


def test_a_core_that_died_is_not_named_once_its_lease_is_over(make_world: MakeWorld) -> None:
    _, second = two(make_world)
    anna = second.worker("anna")
    second.wait(second.tuning.core_lease_seconds + 0.5)
    assert named(beat(second, anna).cores) == [("second", "ipc://second")]


def test_a_session_is_sent_no_more_than_its_worker_grants(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=2.0, batch_size=4))
    world.publish(template("wide", WIDE))
    anna = world.worker("anna", concurrency=4, credit=3)
    told = codec.decode_data(world.letters[-1][1].payload.data, WorkerRegistered)
    assert (told.credit, told.whole_credit) == (3, 8)
    world.submit("wide")
    assert len(anna.requests) == 3
    beat(world, anna, credit=5)
    world.tick()
    assert len(anna.requests) == 5
    beat(world, anna)  # without a word about it, all of it
    world.tick()
    assert len(anna.requests) == 8
    world.run()


def test_less_credit_takes_nothing_back_and_is_reached_as_steps_end(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0, batch_size=4))
    world.publish(template("wide", WIDE))
    anna = world.worker("anna", concurrency=4)
    world.submit("wide")
    batch = anna.batch()
    beat(world, anna, credit=1)
    world.tick()
    session = world.session(anna)
    assert (session.credit, len(session.holding)) == (4, 4)
    for number, request in enumerate(batch.steps):
        world.tick(anna.partial(batch, request.step_id, anna.handler(request)))
        world.tick()
        assert len(session.holding) == max(1, 3 - number)
    assert len(anna.requests) == 5
    (row,) = world.rows("SELECT credit FROM tasker_worker_registrations")
    assert row.credit >= len(session.holding)
    world.run()


def test_a_batch_has_time_for_the_steps_of_other_cores_before_it(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=2.0))
    world.publish(template("single", SINGLE))
    world.worker("anna", concurrency=4)
    world.submit("single")
    world.run()
    beat(world, world.workers[0], credit=1)
    world.submit("single")
    alone, beside = (row.timeout_seconds for row in world.batches())
    assert beside - alone == 30  # seven steps may stand before it, and four run at a time
    world.run()


def test_what_a_worker_took_to_another_core_is_neither_lost_nor_charged_by_the_first(
    make_world: MakeWorld,
) -> None:
    first, second, anna, task = sent_by_the_first(make_world)
    again = moved(second, anna, anna.batch())
    pass_time(first.tuning.session_dead_seconds + 3, first, second)
    assert first.state.sessions == {}
    step = first.steps(task)["a"]
    assert (step.state, step.attempts, step.losses) == ("in_progress", 1, 0)
    pass_time(40, first, second)  # the first core's deadline for the batch passes, too
    assert first.batches()[0].core_id == "second"
    second.tick(*second.work())
    assert first.states(task) == {"a": "complete"}
    assert second.session(again).holding == {}
    second.run()


def test_what_is_taken_along_at_the_moment_of_a_loss_is_not_lost(
    engine: Engine, make_world: MakeWorld
) -> None:
    first, second, anna, task = sent_by_the_first(make_world)
    anna.silent = True
    first.clock.advance(first.tuning.session_dead_seconds / 2)
    first.tick()  # it lives
    first.clock.advance(first.tuning.session_dead_seconds / 2 + 1)
    now = first.clock.now()

    def lose(connection: Connection) -> None:
        first.ticking.run(connection, (), now).changes.carry_out()

    request = second.command(
        "RegisterWorker",
        {
            "worker_name": "anna",
            "handlers": ["tests.work"],
            "former_session_ids": [anna.session_id],
            "in_hand": [{"batch_id": anna.in_hand[0].batch_id, "step_ids": []}],
        },
        route=(b"anna",),
    )
    with engine.connect() as connection:
        ticked = second.ticking.run(connection, [request], now)
        losing = meanwhile(engine, lose)
        assert not losing.done()
        connection.commit()
        losing.result()
    ticked.changes.carry_out()
    assert first.states(task) == {"a": "in_progress"}
    assert first.steps(task)["a"].losses == 0
    frames = first.work()
    second.tick(*frames, *anna.work())
    second.run()
    assert first.states(task) == {"a": "complete"}


def test_a_batch_that_was_brought_along_runs_out_of_time_like_any_other(
    make_world: MakeWorld,
) -> None:
    first, second, anna, task = sent_by_the_first(make_world)
    again = moved(second, anna, anna.batch())
    assert len(second.state.deadlines) == 1
    again.in_hand.clear()  # it never says anything, but goes on beating
    second.wait(40)
    assert first.batches()[0].state == "timed_out"
    assert second.steps(task)["a"].attempts == 2
    second.run()


def test_what_a_dead_core_had_sent_and_never_arrived_goes_elsewhere_at_once(
    make_world: MakeWorld,
) -> None:
    _, second, anna, task = sent_by_the_first(make_world)
    second.wait(second.tuning.core_lease_seconds + 0.5)  # the first one ticks no more
    assert second.steps(task)["a"].state == "in_progress"
    again = moved(second, anna)
    second.tick()
    assert [request.step_name for request in again.requests] == ["a"]
    step = second.steps(task)["a"]
    assert (step.attempts, step.losses) == (1, 0)
    second.run()


def test_results_of_what_it_was_sent_by_a_dead_core_are_still_its_own(
    make_world: MakeWorld,
) -> None:
    _, second, anna, task = sent_by_the_first(make_world)
    batch = anna.batch()
    again = moved(second, anna)  # it had not arrived when it registered; now it has
    second.tick(*again.answers(batch))
    assert second.verdicts() == ["applied", "applied"]
    assert second.states(task) == {"a": "complete"}


def test_sessions_of_others_are_not_succeeded(make_world: MakeWorld) -> None:
    first, second, anna, _ = sent_by_the_first(make_world)
    batch = anna.batch()
    assert anna.session_id is not None
    bert = second.worker("bert", former_session_ids=(anna.session_id,))
    second.tick(*bert.answers(batch))
    assert set(second.verdicts()) == {"rejected"}
    first.tick(*anna.answers(batch))
    first.run()


def test_the_sessions_of_one_process_can_be_told_by_its_instance(make_world: MakeWorld) -> None:
    for each in two(make_world):
        each.worker("anna", instance="life-1")
    stored = each.rows("SELECT core_id, connection_details FROM tasker_worker_registrations")
    assert {row.core_id: row.connection_details["instance"] for row in stored} == {
        "first": "life-1",
        "second": "life-1",
    }


def registered(
    world: World, batch: StepBatch, *, instance: str = "life-1", **more: object
) -> SimulatedWorker:
    """Anna's process with this batch in hand."""
    named = (in_hand(batch),)
    more = {"instance": instance, "in_hand": named, **more}
    return world.worker("anna", **more)  # type: ignore[arg-type]


def test_a_registration_that_is_read_late_takes_nothing_back(make_world: MakeWorld) -> None:
    first, second, anna, task = sent_by_the_first(make_world)
    batch = anna.batch()
    again = registered(second, batch, registrations=3)
    again.take(batch)
    anna.silent = True
    late = registered(first, batch, registrations=2, former_session_id=anna.session_id)
    assert first.session(late).holding == {}
    assert first.steps(task)["a"].losses == 0
    second.tick(*second.work())
    assert second.verdicts() == ["applied", "applied"]
    later = registered(first, batch, registrations=4)
    assert [row.session_id for row in first.batches()] == [later.session_id]


def test_a_process_takes_over_from_its_predecessor_whatever_the_numbers(
    make_world: MakeWorld,
) -> None:
    first, second, anna, task = sent_by_the_first(make_world)
    batch = anna.batch()
    registered(second, batch, registrations=7)
    heir = registered(second, batch, registrations=1, instance="life-2")
    second.tick(*heir.answers(batch))
    assert first.states(task) == {"a": "complete"}


def test_a_credit_that_is_lowered_counts_in_the_very_tick_in_which_it_comes(world: World) -> None:
    world.publish(template("single", {"a": Node()}))
    anna = world.worker("anna", concurrency=5)
    assert anna.session_id is not None
    lowered = WorkerHeartbeat(session_id=anna.session_id, credit=1)
    asked = [world.command("InitializeTask", world.request("single")) for _ in range(8)]
    world.tick(world.command("WorkerHeartbeat", lowered, route=anna.route), *asked)
    assert len(world.session(anna).holding) <= world.session(anna).credit == 1
    world.run()
    assert len(anna.requests) == 8
