"""Publications get lost, workers go deaf, sessions follow one another: no work is lost by it."""

from collections.abc import Sequence

import pytest

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId
from tasker_zmq.pipeline.inbox import SubscriptionSeen
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ConfirmStart,
    InHand,
    Ping,
    RegisterWorker,
    StartConfirmed,
    WorkerMetadata,
    WorkerRegistered,
)
from tasker_zmq.protocol.messages import StepBatch
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, done, template
from tests.pipeline.conftest import MakeWorld

ONCE = {"retryable": False}
PAIR = {"a": Node(), "b": Node(after=("a",))}
SINGLE = {"a": Node()}


def attempts(world: World, task: int, step: str = "a") -> tuple[str, int, int]:
    row = world.steps(task)[step]  # type: ignore[arg-type]
    return row.state, row.attempts, row.losses


def confirm(world: World, worker: SimulatedWorker, batch: StepBatch) -> Sequence[StepId]:
    assert worker.session_id is not None
    asked = ConfirmStart(
        session_id=worker.session_id,
        batch_id=batch.batch_id,
        step_ids=tuple(request.step_id for request in batch.steps),
    )
    reply = world.ask("ConfirmStart", asked)
    return codec.decode_data(reply.payload.data, StartConfirmed).step_ids


def register_again(
    world: World, worker: SimulatedWorker, *, in_hand: tuple[InHand, ...]
) -> SimulatedWorker:
    """The same process under a new session; its former one is named."""
    request = RegisterWorker(
        worker_name=worker.name,
        handlers=("tests.work",),
        metadata=WorkerMetadata(max_concurrent_steps=10),
        former_session_id=worker.session_id,
        in_hand=in_hand,
    )
    before = len(world.letters)
    world.tick(world.command("RegisterWorker", request, route=worker.route))
    reply = next(reply for to, reply in world.letters[before:] if to == worker.route)
    registered = codec.decode_data(reply.payload.data, WorkerRegistered)
    again = SimulatedWorker(
        worker.name, registered.session_id, handler=worker.handler, route=worker.route
    )
    world.workers.append(again)
    world.subscribe(again)
    return again


def test_a_publication_that_got_lost_is_sent_again_under_its_own_name(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker()
    worker.hears = False
    task = world.submit("pair")
    worker.hears = True
    assert worker.requests == []
    world.wait(2 * world.tuning.heartbeat_interval_seconds + 0.1)
    (batch,) = worker.in_hand
    assert (batch.delivery, batch.publication) == (2, 2)
    assert str(world.batches()[0].batch_uuid) == batch.batch_id
    assert attempts(world, task) == ("in_progress", 1, 0)
    world.run()
    assert world.task(task).state == "complete"
    assert [request.metadata.attempt for request in worker.requests] == [0, 0]
    assert [row.deliveries for row in world.batches()] == [2, 1]


def test_what_a_worker_has_in_hand_is_not_sent_again(world: World) -> None:
    world.publish(template("single", SINGLE))
    worker = world.worker()
    world.submit("single")
    world.wait(20)
    assert [batch.delivery for batch in worker.in_hand] == [1]
    world.run()


def test_beats_that_waited_together_are_one_sign(world: World) -> None:
    world.publish(template("single", SINGLE))
    worker = world.worker()
    worker.hears = False
    world.submit("single")
    worker.hears = True
    world.tick(*world.beats(), *world.beats(), *world.beats())
    assert worker.in_hand == []
    world.run()


def test_the_work_of_a_deaf_worker_goes_elsewhere_without_a_charge(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    anna.hears = False
    task = world.submit("single")
    world.wait(30)
    assert attempts(world, task) == ("pending", 0, 0)
    before = len(world.letters)
    world.tick(*world.beats())
    told = [bytes(reply.payload.data) for to, reply in world.letters[before:] if to == anna.route]
    assert all(b"unknown_session" in each for each in told)
    bert = world.worker("bert")
    world.run()
    assert len(bert.requests) == 1
    assert world.task(task).state == "complete"


def test_a_process_that_registers_again_gets_at_once_what_never_reached_it(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    reached = world.submit("single")
    batch = anna.batch()
    anna.hears = False
    lost = world.submit("single")
    anna.silent = True
    again = register_again(world, anna, in_hand=(InHand(batch_id=batch.batch_id),))
    assert attempts(world, reached) == ("in_progress", 1, 0)
    world.tick()
    assert [request.task_id for request in again.requests] == [lost]
    assert attempts(world, lost) == ("in_progress", 1, 0)
    answers = SimulatedWorker("anna", again.session_id, handler=done, route=anna.route)
    world.tick(*answers.answers(batch))
    world.run()
    assert {world.task(task).state for task in (reached, lost)} == {"complete"}


def test_what_reached_a_process_after_all_is_its_own_also_under_its_next_session(
    world: World,
) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna", concurrency=1)
    task = world.submit("single")
    batch = anna.batch()
    anna.silent = True
    world.state.draining = True  # so that it is not sent again meanwhile
    again = register_again(world, anna, in_hand=())
    assert attempts(world, task) == ("pending", 0, 0)
    speaking = SimulatedWorker("anna", again.session_id, handler=done, route=anna.route)
    world.tick(*speaking.answers(batch))
    assert world.verdicts()[0] == "applied"
    assert world.task(task).state == "complete"
    world.run()


def test_nobody_ends_the_session_of_another_worker_by_naming_it_as_his_own(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    task = world.submit("single")
    thief = SimulatedWorker("thief", anna.session_id, handler=done, route=(b"thief",))
    register_again(world, thief, in_hand=(InHand(batch_id=anna.in_hand[0].batch_id),))
    assert attempts(world, task) == ("in_progress", 1, 0)
    assert anna.session_id in world.state.sessions
    world.tick(*anna.work())
    assert world.task(task).state == "complete"


def test_a_worker_whose_subscriber_left_is_asked_and_lost_when_it_does_not_answer(
    world: World,
) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    task = world.submit("single")
    anna.silent = True
    before = len(world.letters)
    world.tick(SubscriptionSeen(anna.topic, subscribed=False))
    asked = [reply for to, reply in world.letters[before:] if to == anna.route]
    assert [each.command_type for each in asked] == ["Ping"]
    assert codec.decode_data(asked[0].payload.data, Ping).session_id == anna.session_id
    bert = world.worker("bert")
    world.wait(world.tuning.session_ping_seconds + 0.5)
    assert anna.session_id not in world.state.sessions
    world.run()
    assert len(bert.requests) == 1
    assert attempts(world, task) == ("complete", 2, 1)


def test_a_hint_alone_ends_no_session(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    task = world.submit("single")
    world.tick(SubscriptionSeen(anna.topic, subscribed=False))
    world.tick(*world.beats())
    world.wait(30)
    assert anna.session_id in world.state.sessions
    world.tick(*anna.work())
    assert world.task(task).state == "complete"


def test_a_late_success_of_a_lost_step_is_welcome_until_it_is_sent_again(world: World) -> None:
    world.publish(template("pair", PAIR))
    anna = world.worker("anna")
    task = world.submit("pair")
    batch = anna.batch()
    anna.silent = True
    world.wait(11)
    assert attempts(world, task) == ("pending", 1, 1)
    world.tick(*anna.answers(batch))
    assert world.states(task) == {"a": "complete", "b": "pending"}
    assert world.verdicts()[0] == "applied"
    bert = world.worker("bert")
    world.run()
    assert [request.step_name for request in bert.requests] == ["b"]
    assert world.task(task).state == "complete"


def test_a_late_success_of_a_step_that_ran_out_of_time_is_welcome(world: World) -> None:
    world.publish(
        template("slow", {"a": Node(timeout_seconds=1, retry={"backoff_base_ms": 60_000})})
    )
    anna = world.worker("anna")
    task = world.submit("slow")
    batch = anna.batch()
    world.wait(8)
    assert world.states(task) == {"a": "waiting_for_retry"}
    world.tick(*anna.answers(batch))
    assert world.task(task).state == "complete"
    (row,) = world.batches()
    assert (row.state, row.completed_steps, row.failed_steps) == ("timed_out", 1, 0)
    world.run()


def test_a_late_success_is_welcome_also_when_the_retry_is_due_and_not_sent(world: World) -> None:
    patient = Node(timeout_seconds=1, retry={"backoff_base_ms": 1_000})
    world.publish(template("slow", {"a": patient}))
    anna = world.worker("anna", concurrency=1)
    task = world.submit("slow")
    batch = anna.batch()
    world.state.draining = True  # so that it is not sent again meanwhile
    world.wait(12)
    assert world.states(task) == {"a": "pending"}
    world.tick(*anna.answers(batch))
    assert world.task(task).state == "complete"
    world.run()


def test_a_late_failure_changes_nothing(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna", handler=lambda _: failing())
    task = world.submit("single")
    batch = anna.batch()
    anna.silent = True
    world.wait(11)
    world.tick(*anna.answers(batch))
    assert world.verdicts()[0] == "late"
    assert attempts(world, task) == ("pending", 1, 1)
    world.worker("bert")
    world.run()


def test_a_step_that_kills_its_workers_is_given_up_after_some_losses(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(losses_max=2))
    world.publish(template("single", SINGLE))
    task = world.submit("single")
    for number in range(3):
        worker = world.worker(f"victim{number}")
        assert len(worker.requests) == 1 or world.tick() is not None
        worker.silent = True
        world.wait(11)
    assert attempts(world, task) == ("error", 3, 3)
    (letter,) = world.dead_letters()
    assert letter.reason == "max_losses_exceeded"
    world.run()
    assert world.task(task).state == "error"


def test_losses_use_up_no_try(make_world: MakeWorld) -> None:
    world = make_world()
    world.publish(template("single", {"a": Node(retry={"max_attempts": 2, "backoff_base_ms": 0})}))
    task = world.submit("single")
    for number in range(2):
        world.worker(f"victim{number}").silent = True
        world.wait(11)
    words = iter([failing(), Word(output={})])
    world.worker("bert", handler=lambda _: next(words))
    world.run()
    assert attempts(world, task) == ("complete", 4, 2)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_step_that_must_not_run_twice_is_in_doubt_only_when_it_was_allowed_to_begin(
    world: World, *, confirmed: bool
) -> None:
    world.publish(template("single", {"a": Node(retry=ONCE)}))
    anna = world.worker("anna", confirms_start=True)
    task = world.submit("single")
    batch = anna.batch()
    assert batch.confirm_start
    if confirmed:
        assert confirm(world, anna, batch) == (batch.steps[0].step_id,)
        assert confirm(world, anna, batch) == (batch.steps[0].step_id,)
    anna.silent = True
    world.wait(11)
    if confirmed:
        assert attempts(world, task) == ("in_doubt", 1, 0)
        assert [letter.reason for letter in world.dead_letters()] == ["in_doubt"]
        world.tick(*anna.answers(batch))  # its late success ends the doubt
        assert [letter.status for letter in world.dead_letters()] == ["resolved"]
    else:
        assert attempts(world, task) == ("pending", 0, 0)
        assert world.dead_letters() == []
        world.worker("bert")
        world.run()
    assert world.task(task).state == "complete"


def test_nothing_is_confirmed_that_went_elsewhere_or_is_asked_by_another(world: World) -> None:
    world.publish(template("single", {"a": Node(retry=ONCE)}))
    anna = world.worker("anna", confirms_start=True)
    world.submit("single")
    batch = anna.batch()
    stranger = SimulatedWorker("x", SessionId("nobody"), handler=done, route=(b"x",))
    assert confirm(world, stranger, batch) == ()
    bert = world.worker("bert", confirms_start=True)
    assert confirm(world, bert, batch) == ()
    anna.silent = True
    world.wait(11)
    assert confirm(world, anna, batch) == ()
    world.tick(*bert.work())
    world.run()


def test_no_session_is_sent_more_bytes_than_it_may_hold(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(session_bytes_max=10_000))
    world.publish(template("single", SINGLE))
    worker = world.worker()
    tasks = [world.submit("single", {"pad": "x" * 3_000}) for _ in range(6)]
    assert len(worker.requests) == 2
    big = world.submit("single", {"pad": "x" * 30_000})  # alone it may go
    world.run()
    assert {world.task(task).state for task in (*tasks, big)} == {"complete"}


def test_an_outcome_that_only_a_completion_tells_waits_while_its_worker_may_still_report_it(
    world: World,
) -> None:
    world.publish(template("pair", PAIR))
    anna = world.worker("anna", handler=lambda _: Word(output={"kept": True}))
    task = world.submit("pair")
    partial, completion = anna.answers(anna.batch())
    world.tick(completion)
    anna.unrecorded[BatchUuid(str(world.batches()[0].batch_uuid))] = None  # it resends the partial
    world.wait(30)
    assert world.states(task)["a"] == "in_progress"
    world.tick(partial)
    assert world.steps(task)["a"].results == {"kept": True}
    anna.unrecorded.clear()
    world.run()
    assert world.task(task).state == "complete"


def test_it_is_taken_when_the_worker_has_nothing_more_of_the_batch(world: World) -> None:
    world.publish(template("single", SINGLE))
    anna = world.worker("anna")
    task = world.submit("single")
    _, completion = anna.answers(anna.batch())
    world.tick(completion)
    world.wait(10)
    assert world.task(task).state == "complete"


@pytest.mark.parametrize(
    ("retry", "state", "losses"), [({}, "in_progress", 1), (ONCE, "in_doubt", 0)]
)
def test_what_a_worker_had_and_has_no_more_may_have_begun(
    world: World, retry: dict[str, bool], state: str, losses: int
) -> None:
    """As of a batch that a killed process had half told: its successor knows that half alone."""
    world.publish(template("pair", {"a": Node(retry=retry), "b": Node(retry=retry)}))
    anna = world.worker("anna")
    task = world.submit("pair")
    batch = anna.batch()
    world.wait(1)
    world.tick(anna.partial(batch, batch.steps[0].step_id, Word()))
    anna.unrecorded.clear()
    told, untold = (request.step_name for request in batch.steps)
    world.wait(12)
    assert attempts(world, task, told)[0] == "complete"
    assert (attempts(world, task, untold)[0], attempts(world, task, untold)[2]) == (state, losses)
