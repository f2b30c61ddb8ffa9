"""Who gets work, how much, and what becomes of it when its worker is gone."""

import pytest

from tasker_zmq.pipeline.inbox import SubscriptionSeen
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.commands import InHand, WorkerGoodbye
from tasker_zmq.protocol.messages import StepBatch, StepRequest
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

ONCE = {"retryable": False}
WIDE = {f"step{number}": Node() for number in range(30)}


def in_hand(batch: StepBatch) -> InHand:
    step_ids = tuple(request.step_id for request in batch.steps)
    return InHand(batch_id=batch.batch_id, step_ids=step_ids)


def goodbye(world: World, worker: SimulatedWorker, *unfinished: InHand) -> None:
    assert worker.session_id is not None
    world.ask("WorkerGoodbye", WorkerGoodbye(session_id=worker.session_id, unfinished=unfinished))
    worker.silent = True


def test_no_session_is_ever_sent_more_than_its_credit(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=2.0, batch_size=4))
    world.publish(template("wide", WIDE))
    workers = [world.worker(f"worker{n}", concurrency=n + 1) for n in range(3)]
    world.submit_many("wide", 3)
    for _ in range(200):
        for number, worker in enumerate(workers):
            held = sum(len(batch.steps) for batch in worker.in_hand)
            assert held <= 2 * (number + 1)
            assert all(len(batch.steps) <= 4 for batch in worker.in_hand)
        frames = world.work()
        if not frames:
            break
        world.tick(*frames)
    world.run()
    assert all(len(worker.requests) > 0 for worker in workers)


def test_two_handlers_of_one_session_do_not_share_its_credit_twice(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0))
    world.publish(template("both", {f"s{n}": Node(handler=f"tests.h{n % 3}") for n in range(12)}))
    worker = world.worker(handlers=("tests.h0", "tests.h1", "tests.h2"), concurrency=5)
    world.submit("both")
    assert sum(len(batch.steps) for batch in worker.in_hand) == 5
    world.run()


def test_credit_comes_back_when_a_step_ends_not_before(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0))
    world.publish(template("wide", WIDE))
    worker = world.worker(concurrency=2)
    world.submit("wide")
    batch = worker.batch()
    first, second = batch.steps
    world.tick()
    assert worker.in_hand == []
    world.tick(worker.partial(batch, first.step_id, Word(status="in_progress")))
    world.tick()
    assert worker.in_hand == []
    world.tick(worker.partial(batch, first.step_id, Word()))
    world.tick()
    assert [len(each.steps) for each in worker.in_hand] == [1]
    world.tick(worker.partial(batch, second.step_id, Word()))
    world.run()


def test_nothing_is_sent_before_the_subscription_was_seen(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    worker = world.worker(subscribed=False)
    task = world.submit("one")
    world.wait(4)
    assert (worker.in_hand, world.states(task)) == ([], {"a": "pending"})
    world.subscribe(worker)
    world.run()
    assert world.states(task) == {"a": "complete"}


def test_a_draining_session_gets_nothing_and_its_results_count(world: World) -> None:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    worker = world.worker()
    task = world.submit("pair")
    world.session(worker).draining = True
    world.tick(*world.work())
    world.wait(3)
    assert world.states(task) == {"a": "complete", "b": "pending"}
    assert worker.in_hand == []
    world.session(worker).draining = False
    world.run()


def test_a_draining_core_sends_nothing_and_takes_results(world: World) -> None:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    worker = world.worker()
    task = world.submit("pair")
    world.state.draining = True
    world.tick(*world.work())
    assert world.states(task) == {"a": "complete", "b": "pending"}
    reply = world.ask("InitializeTask", world.request("pair"))
    assert reply.payload.type == "Error"
    assert worker.in_hand == []
    world.state.draining = False
    world.run()


def test_work_goes_only_to_those_who_have_the_handler(world: World) -> None:
    world.publish(template("two", {"a": Node(handler="tests.a"), "b": Node(handler="tests.b")}))
    anna = world.worker("anna", handlers=("tests.a",))
    bert = world.worker("bert", handlers=("tests.b",))
    world.submit_many("two", 5)
    world.run()
    assert {request.step_name for request in anna.requests} == {"a"}
    assert {request.step_name for request in bert.requests} == {"b"}


def test_a_handler_that_nobody_runs_delays_no_other(world: World) -> None:
    world.publish(
        template("strange", {"a": Node(handler="tests.nobody")}), template("one", {"a": Node()})
    )
    world.worker()
    stuck = world.submit_many("strange", 20)
    fine = world.submit_many("one", 20)
    world.tick(*world.work())
    world.tick(*world.work())
    assert {world.task(task).state for task in fine} == {"complete"}
    world.worker("helper", handlers=("tests.nobody",))
    world.run()
    assert {world.task(task).state for task in stuck} == {"complete"}


def test_the_steps_of_a_silent_session_go_to_another(world: World) -> None:
    world.publish(template("twins", {"left": Node(), "right": Node()}))
    anna = world.worker("anna")
    task = world.submit("twins")
    bert = world.worker("bert")
    anna.silent = True
    world.wait(world.tuning.session_dead_seconds - 1)
    assert bert.in_hand == []
    world.wait(2)
    assert sum(len(batch.steps) for batch in bert.in_hand) == 2
    assert anna.session_id not in world.state.sessions
    world.run()
    assert world.task(task).state == "complete"
    assert [batch.state for batch in world.batches()] == ["orphaned", "completed"]
    assert {step.losses for step in world.steps(task).values()} == {1}
    (status,) = world.rows(
        "SELECT status FROM tasker_worker_registrations WHERE session_id = :s", s=anna.session_id
    )
    assert status.status == "disconnected"


def test_a_lost_session_is_told_that_it_is_unknown_and_its_results_are_stale(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    anna = world.worker("anna")
    task = world.submit("one")
    batch = anna.batch()
    anna.silent = True
    bert = world.worker("bert")
    world.wait(11)
    anna.silent = False
    before = len(world.letters)
    world.tick(*world.beats())
    told = [bytes(reply.payload.data) for to, reply in world.letters[before:] if to == anna.route]
    assert b"unknown_session" in told[0]
    world.tick(*anna.answers(batch))
    assert world.verdicts()[0] == "stale"
    assert world.states(task) == {"a": "in_progress"}
    assert len(bert.in_hand) == 1
    world.run()


def test_a_step_that_must_not_run_twice_is_in_doubt_when_its_session_is_lost(world: World) -> None:
    world.publish(template("twins", {"once": Node(retry=ONCE), "again": Node()}))
    anna = world.worker("anna")
    task = world.submit("twins")
    bert = world.worker("bert")
    anna.silent = True
    world.wait(11)
    world.tick(*world.work())
    assert world.states(task) == {"once": "in_doubt", "again": "complete"}
    assert world.task(task).state == "in_progress"
    assert [request.step_name for request in bert.requests] == ["again"]
    assert world.steps(task)["once"].error["error_type"] == "InDoubt"


def test_steps_that_were_never_started_are_given_back_without_a_charge(world: World) -> None:
    world.publish(
        template("twins", {"once": Node(retry=ONCE), "again": Node(retry={"max_attempts": 1})})
    )
    anna = world.worker("anna")
    task = world.submit("twins")
    goodbye(world, anna, *(in_hand(batch) for batch in anna.in_hand))
    for step in world.steps(task).values():
        assert (step.state, step.attempts, step.losses) == ("pending", 0, 0)
    bert = world.worker("bert")
    world.run()
    assert [request.metadata.attempt for request in bert.requests] == [0, 0]
    assert world.task(task).state == "complete"


def test_what_a_leaving_worker_had_started_is_charged_as_lost(world: World) -> None:
    world.publish(template("twins", {"left": Node(), "right": Node()}))
    anna = world.worker("anna")
    task = world.submit("twins")
    batch = anna.batch()
    started = batch.steps[0]
    only_one = InHand(batch_id=batch.batch_id, step_ids=(batch.steps[1].step_id,))
    goodbye(world, anna, only_one)
    steps = world.steps(task)
    assert (steps[started.step_name].attempts, steps[started.step_name].losses) == (1, 1)
    other = steps[batch.steps[1].step_name]
    assert (other.attempts, other.losses) == (0, 0)
    world.worker("bert")
    world.run()


def test_a_worker_that_leaves_with_nothing_in_hand_loses_nothing(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    anna = world.worker("anna")
    world.submit("one")
    world.tick(*world.work())
    goodbye(world, anna)
    goodbye(world, anna)
    world.run()
    assert anna.session_id not in world.state.sessions


def test_a_batch_past_its_deadline_is_timed_out_and_its_steps_are_retried(world: World) -> None:
    world.publish(
        template("one", {"a": Node(timeout_seconds=20, retry={"backoff_base_ms": 1_000})})
    )
    worker = world.worker()
    task = world.submit("one")
    late = worker.batch()
    world.wait(24)
    assert world.states(task) == {"a": "in_progress"}
    world.wait(2)
    assert world.batches()[0].state == "timed_out"
    assert world.steps(task)["a"].error["error_type"] == "BatchTimeout"
    world.wait(2)
    second = worker.batch()
    assert second.steps[0].metadata.attempt == 1
    world.tick(*worker.answers(late))
    assert world.verdicts()[0] == "stale"
    worker.take(second)
    world.run()
    assert world.task(task).state == "complete"


def test_a_step_that_runs_out_of_time_too_often_ends(world: World) -> None:
    retry = {"max_attempts": 2, "backoff_base_ms": 100}
    world.publish(template("one", {"a": Node(timeout_seconds=5, retry=retry)}))
    worker = world.worker()
    task = world.submit("one")
    for _ in range(2):
        worker.in_hand.clear()
        world.wait(15)
    worker.in_hand.clear()
    assert world.states(task) == {"a": "error"}
    assert world.task(task).state == "error"
    world.run()


def test_time_out_of_a_part_leaves_what_was_recorded(world: World) -> None:
    world.publish(template("twins", {"left": Node(), "right": Node()}))
    worker = world.worker()
    task = world.submit("twins")
    batch = worker.batch()
    done = batch.steps[0]
    world.tick(worker.partial(batch, done.step_id, Word(output={"n": 1})))
    world.wait(40)
    worker.in_hand.clear()
    assert world.batches()[0].state == "timed_out"
    assert world.steps(task)[done.step_name].results == {"n": 1}
    assert world.batches()[0].completed_steps == 1
    world.run()


def test_a_legacy_worker_gets_work_only_when_nobody_registered_can_run_it(world: World) -> None:
    world.publish(template("two", {"a": Node(handler="tests.a"), "b": Node(handler="tests.b")}))
    legacy = world.legacy_worker()
    anna = world.worker("anna", handlers=("tests.a",))
    world.submit_many("two", 4)
    world.run()
    assert {request.step_name for request in legacy.requests} == {"b"}
    assert {request.step_name for request in anna.requests} == {"a"}


def test_a_legacy_worker_alone_finishes_everything(world: World) -> None:
    def handler(request: StepRequest) -> Word:
        return failing() if request.metadata.attempt == 0 else Word(output={"ok": True})

    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    world.legacy_worker(handler=handler)
    task = world.submit("pair")
    world.run()
    assert world.task(task).state == "complete"


def test_a_legacy_worker_that_went_gets_nothing(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    legacy = world.legacy_worker()
    world.tick(SubscriptionSeen(topics.LEGACY_STEPS_TOPIC, subscribed=False))
    task = world.submit("one")
    assert (legacy.in_hand, world.states(task)) == ([], {"a": "pending"})
    world.subscribe(legacy)
    world.run()


def test_a_legacy_worker_is_served_again_after_a_restart(world: World) -> None:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    legacy = world.legacy_worker()
    task = world.submit("pair")
    world.restart()
    world.subscribe(legacy)
    world.run()
    assert world.task(task).state == "complete"


def test_a_new_session_of_the_same_worker_takes_its_batches_over(world: World) -> None:
    world.publish(template("one", {"a": Node(retry=ONCE)}))
    anna = world.worker("anna")
    task = world.submit("one")
    batch = anna.batch()
    anna.silent = True
    again = world.worker("anna", in_hand=(in_hand(batch),))
    again.unrecorded[batch.batch_id] = None  # it goes on to name it
    world.wait(12)
    assert world.states(task) == {"a": "in_progress"}
    assert len(world.session(again).holding) == 1
    world.tick(*again.answers(batch))
    assert world.task(task).state == "complete"
    world.run()


def test_another_worker_cannot_take_batches_over(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    anna = world.worker("anna")
    world.submit("one")
    batch = anna.in_hand[0]
    mallory = world.worker("mallory", in_hand=(in_hand(batch),))
    world.tick(*mallory.answers(batch))
    assert set(world.verdicts()) == {"rejected"}
    world.run()


@pytest.mark.parametrize("workers", [2, 5])
def test_work_is_spread_over_the_workers(world: World, workers: int) -> None:
    world.publish(template("wide", WIDE))
    made = [world.worker(f"worker{number}", concurrency=10) for number in range(workers)]
    world.submit("wide")
    held = [sum(len(batch.steps) for batch in worker.in_hand) for worker in made]
    assert max(held) - min(held) <= 1
    world.run()


def test_a_subscription_wakes_waiting_work_at_once(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    worker = world.worker(subscribed=False)
    world.submit("one")
    now = world.clock.now()
    assert next_due(world.state, world.tuning, now) > now
    world.subscribe(worker)
    assert next_due(world.state, world.tuning, now) <= now
    world.run()


def test_work_that_waits_for_a_busy_session_does_not_keep_the_core_awake_for_a_legacy_one(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0))
    world.publish(template("wide", WIDE))
    world.legacy_worker()
    world.worker(concurrency=1)
    world.submit("wide")
    world.tick()
    now = world.clock.now()
    assert next_due(world.state, world.tuning, now) > now
    world.run()


def test_a_place_that_a_result_frees_is_filled_by_the_very_tick_that_hears_of_it(
    world: World,
) -> None:
    world.publish(template("single", {"only": Node()}))
    worker = world.worker(concurrency=1)
    credit = world.session(worker).credit
    world.submit_many("single", credit + 1)
    assert len(worker.requests) == credit
    world.tick(worker.work()[0])
    assert len(worker.requests) == credit + 1
    assert len(world.session(worker).holding) == credit
