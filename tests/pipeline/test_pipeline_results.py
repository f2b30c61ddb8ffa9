"""Every message is ledgered with what became of it, and only the right ones move a step."""

from typing import Any

import pytest

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId
from tasker_zmq.pipeline.inbox import ReceivedResult
from tasker_zmq.protocol.messages import OldResponse, PartialResult, StepError
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing, frame
from tasker_zmq.testing.world import Node, World, template

STRANGE = "0190b1f0-0000-7000-8000-000000000000"
RETRY = {"max_attempts": 3, "backoff_base_ms": 1_000}


@pytest.fixture
def worker(world: World) -> SimulatedWorker:
    world.publish(
        template("pair", {"a": Node(retry=RETRY), "b": Node(after=("a",), retry=RETRY)}),
        template("twins", {"left": Node(retry=RETRY), "right": Node(retry=RETRY)}),
    )
    return world.worker()


def say(worker: SimulatedWorker, **fields: Any) -> ReceivedResult:
    """A partial result with chosen fields."""
    given = {"status": "completed", "session_id": worker.session_id, "sequence": 1, **fields}
    return frame(PartialResult(**given))


def test_a_repeated_result_is_a_duplicate_and_changes_nothing(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    batch = worker.batch()
    message = worker.partial(batch, batch.steps[0].step_id, Word(output={"n": 1}))
    world.tick(message)
    before = world.steps(task)
    world.tick(message)
    other = worker.partial(batch, batch.steps[0].step_id, Word(output={"n": 2}))
    world.tick(other)
    assert world.steps(task) == before
    assert world.verdicts() == ["applied", "duplicate", "duplicate"]
    worker.take(batch)
    world.run()


def test_a_result_that_comes_twice_in_one_tick_is_applied_once(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    batch = worker.batch()
    message = worker.partial(batch, batch.steps[0].step_id, Word(output={"n": 1}))
    contradiction = worker.partial(batch, batch.steps[0].step_id, failing())
    world.tick(message, message, contradiction)
    assert world.states(task) == {"a": "complete", "b": "in_progress"}
    assert world.verdicts() == ["applied", "duplicate", "duplicate"]
    world.run()


def test_a_result_of_a_batch_that_is_no_longer_the_current_one_is_stale(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    first = worker.batch()
    step = first.steps[0].step_id
    world.tick(worker.partial(first, step, failing()))
    world.wait(2)
    second = worker.batch()
    assert second.batch_id != first.batch_id
    world.tick(worker.partial(first, step, Word(output={"from": "the first"})))
    assert world.verdicts() == ["applied", "stale"]
    assert world.states(task)["a"] == "in_progress"
    worker.take(second)
    worker.take(first)
    world.run()
    assert world.task(task).state == "complete"


@pytest.mark.parametrize(
    "batch_id", [STRANGE, "no uuid", "", "%", "0190b1f0-0000-7000-8000-00000000000g"]
)
def test_a_result_for_an_unknown_batch_is_ledgered_and_not_applied(
    world: World, worker: SimulatedWorker, batch_id: str
) -> None:
    task = world.submit("pair")
    step = worker.in_hand[0].steps[0].step_id
    world.tick(say(worker, batch_id=BatchUuid(batch_id), step_id=step))
    (row,) = world.ledger()
    assert (row.verdict, row.batch_id) == ("unknown_batch", None)
    assert row.raw_message_json["batch_id"] == batch_id
    assert world.states(task)["a"] == "in_progress"
    world.run()


def test_a_batch_id_is_the_same_in_capital_letters(world: World, worker: SimulatedWorker) -> None:
    task = world.submit("pair")
    batch = worker.batch()
    shouted = BatchUuid(batch.batch_id.upper())
    world.tick(say(worker, batch_id=shouted, step_id=batch.steps[0].step_id))
    assert world.states(task)["a"] == "complete"
    worker.take(batch)
    world.run()


@pytest.mark.parametrize("session_id", ["another", None, ""])
def test_a_result_from_a_foreign_session_is_rejected(
    world: World, worker: SimulatedWorker, session_id: str | None
) -> None:
    task = world.submit("pair")
    batch = worker.in_hand[0]
    spoken = None if session_id is None else SessionId(session_id)
    step_id = batch.steps[0].step_id
    world.tick(say(worker, batch_id=batch.batch_id, step_id=step_id, session_id=spoken))
    (row,) = world.ledger()
    assert row.verdict == "rejected"
    assert str(worker.session_id) in row.processing_errors["reason"]
    assert world.states(task)["a"] == "in_progress"
    world.run()


def test_a_result_for_a_step_that_the_batch_does_not_carry_is_rejected(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    child = world.steps(task)["b"].workflow_step_id
    for stranger in (child, 0, -1, (1 << 63) - 1):
        batch = worker.in_hand[0]
        world.tick(say(worker, batch_id=batch.batch_id, step_id=StepId(stranger)))
    assert world.verdicts() == ["rejected"] * 4
    assert world.states(task) == {"a": "in_progress", "b": "pending"}
    world.run()


def test_an_unknown_status_is_rejected_and_the_step_goes_on(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    batch = worker.in_hand[0]
    step_id = batch.steps[0].step_id
    world.tick(say(worker, batch_id=batch.batch_id, step_id=step_id, status="finished"))
    (row,) = world.ledger()
    assert (row.verdict, row.status) == ("rejected", "finished")
    assert "finished" in row.processing_errors["reason"]
    world.run()
    assert world.task(task).state == "complete"


@pytest.mark.parametrize(
    "field", [{"status": "a\x00b"}, {"worker_id": "a\x00b"}, {"session_id": "a\x00b"}]
)
def test_a_nul_character_in_a_field_is_ledgered_and_disturbs_no_other_message(
    world: World, worker: SimulatedWorker, field: dict[str, Any]
) -> None:
    task = world.submit("pair")
    batch = worker.batch()
    step_id = batch.steps[0].step_id
    odd = say(worker, batch_id=batch.batch_id, step_id=step_id, **field)
    world.tick(odd, *worker.answers(batch))
    assert world.states(task)["a"] == "complete"
    assert len(world.ledger()) == 3
    world.run()


GARBAGE = (
    (b"",),
    (b"no_topic",),
    (b"partial_result {",),
    (b"partial_result []",),
    (b'partial_result {"message_type": "partial_result"}',),
    (b"partial_result \xff\xfe",),
    (b'partial_result "\x00"',),
    (b"partial_result " + b"[" * 100_000,),
    (b"weather {}",),
    (b"results {}", b"{}", b"{}"),
    (b'partial_result {"batch_id": "x", "step_id": 99999999999999999999, "status": "completed"}',),
    (b'partial_result {"batch_id": "\\ud800", "step_id": 1, "status": "completed"}',),
    (b'partial_result {"batch_id": "x", "step_id": 1e300, "status": "completed"}',),
    (b'partial_result {"batch_id": "", "step_id": 1, "status": "", "execution_time_ms": 1e999}',),
)


@pytest.mark.parametrize("frames", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_ledgered_as_it_came_and_disturbs_no_other_message(
    world: World, worker: SimulatedWorker, frames: tuple[bytes, ...]
) -> None:
    task = world.submit("pair")
    world.tick(ReceivedResult(frames), *world.work())
    assert world.states(task)["a"] == "complete"
    assert len(world.ledger()) == 3
    first = world.ledger()[0]
    assert first.verdict in {"rejected", "unknown_batch"}
    assert first.raw_message_json is not None or first.raw_bytes == b" ".join(frames)[:4096]
    world.run()


def test_a_sign_of_life_is_noted_and_starts_the_batch(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("twins")
    batch = worker.in_hand[0]
    alive = Word(status="in_progress")
    world.tick(worker.partial(batch, batch.steps[0].step_id, alive))
    world.tick(worker.partial(batch, batch.steps[0].step_id, alive))
    assert world.verdicts() == ["noted", "noted"]
    assert world.batches()[0].state == "in_progress"
    assert set(world.states(task).values()) == {"in_progress"}
    world.run()


def test_one_failing_step_does_not_fail_its_batch_mates(
    world: World, worker: SimulatedWorker
) -> None:
    worker.handler = lambda request: (
        failing(retryable=False) if request.step_name == "left" else Word(output={"fine": True})
    )
    tasks = world.submit_many("twins", 3)
    assert len(worker.in_hand) == 1
    world.run()
    for task in tasks:
        assert world.states(task) == {"left": "error", "right": "complete"}
        assert world.steps(task)["right"].results == {"fine": True}
        assert world.task(task).state == "error"
        assert world.task(task).error == {"failed_steps": ["left"]}


@pytest.mark.parametrize(
    ("failed", "state"), [(0, "completed"), (1, "partially_failed"), (2, "failed")]
)
def test_a_batch_ends_by_how_many_of_its_steps_failed(
    world: World, worker: SimulatedWorker, failed: int, state: str
) -> None:
    names = ("left", "right")[:failed]
    worker.handler = lambda request: (
        failing(retryable=False) if request.step_name in names else Word(output={})
    )
    world.submit("twins")
    world.run()
    (batch,) = world.batches()
    assert (batch.state, batch.completed_steps, batch.failed_steps) == (state, 2 - failed, failed)
    assert batch.partial_results_received == 2
    assert batch.final_completion_received
    assert batch.reconciliation_status == "consistent"


def test_a_batch_that_could_not_be_run_fails_all_its_steps(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("twins")
    batch = worker.batch()
    world.tick(worker.batch_error(batch, StepError(message="no such handler", retryable=False)))
    assert world.states(task) == {"left": "error", "right": "error"}
    assert world.task(task).state == "error"
    assert world.batches()[0].state == "failed"
    assert world.session(worker).holding == {}
    world.run()


def test_a_batch_error_after_some_results_fails_only_the_rest(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("twins")
    batch = worker.batch()
    left = next(each for each in batch.steps if each.step_name == "left")
    world.tick(worker.partial(batch, left.step_id, Word(output={})))
    world.tick(worker.batch_error(batch, StepError(message="broken", retryable=False)))
    assert world.states(task) == {"left": "complete", "right": "error"}
    assert world.batches()[0].state == "partially_failed"
    world.run()


def test_the_older_one_shot_answer_is_results_and_completion_in_one(
    world: World, worker: SimulatedWorker
) -> None:
    task = world.submit("pair")
    while world.task(task).completed_at is None:
        world.tick(worker.old_response(worker.batch()))
    assert world.states(task) == {"a": "complete", "b": "complete"}
    assert [batch.state for batch in world.batches()] == ["completed", "completed"]
    assert [batch.reconciliation_status for batch in world.batches()] == ["consistent"] * 2
    world.run()


def test_the_older_answer_repeated_is_a_duplicate(world: World, worker: SimulatedWorker) -> None:
    task = world.submit("pair")
    message = worker.old_response(worker.batch())
    world.tick(message)
    before = world.steps(task)
    world.tick(message)
    assert world.steps(task) == before
    assert world.verdicts() == ["applied", "duplicate"]
    world.run()


def test_an_older_answer_without_results_is_known_to_belong_to_its_batch(
    world: World, worker: SimulatedWorker
) -> None:
    world.submit("pair")
    batch = worker.in_hand[0]
    message = OldResponse(batch_id=batch.batch_id, results=(), session_id=worker.session_id)
    world.tick(frame(message))
    (row,) = world.ledger()
    assert row.batch_id == world.batches()[0].batch_id
    world.run()


def test_results_are_acknowledged_after_the_commit_with_their_verdicts(
    world: World, worker: SimulatedWorker
) -> None:
    world.submit("pair")
    batch = worker.batch()
    message = worker.partial(batch, batch.steps[0].step_id, Word(output={}))
    world.letters.clear()
    world.tick(message, message)
    ((route, told),) = world.letters
    assert (route, told.command_type) == (worker.route, "ResultsRecorded")
    text = bytes(told.payload.data).decode()
    assert '"applied"' in text
    assert '"duplicate"' in text
    worker.take(batch)
    world.run()
