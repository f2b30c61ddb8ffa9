"""Partial results and completions are two accounts; each may stand in for the other."""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tasker_zmq.domain.ids import BatchId, StepId, TaskId
from tasker_zmq.domain.reconciliation import Reconciliation
from tasker_zmq.pipeline.reconcile import recompute
from tasker_zmq.protocol.messages import StepBatch, StepError
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import empty

TWINS = {"left": Node(retry={"max_attempts": 2}), "right": Node(retry={"max_attempts": 2})}


def sent(world: World) -> tuple[TaskId, SimulatedWorker, StepBatch]:
    """A task of two steps in one batch."""
    world.publish(template("twins", TWINS))
    worker = world.worker()
    task = world.submit("twins")
    return task, worker, worker.batch()


def words(batch: StepBatch, *said: Word) -> list[tuple[StepId, Word]]:
    return [(request.step_id, word) for request, word in zip(batch.steps, said, strict=True)]


def grace(world: World) -> float:
    return world.tuning.completion_grace_seconds + 0.1


def status(world: World) -> str:
    return str(world.batches()[0].reconciliation_status)


def test_both_accounts_together_are_consistent_at_once(world: World) -> None:
    _, worker, batch = sent(world)
    world.tick(*worker.answers(batch))
    assert status(world) == "consistent"
    assert world.discrepancies() == []
    world.run()


def test_the_order_of_the_messages_does_not_matter(world: World) -> None:
    task, worker, batch = sent(world)
    for frame in reversed(worker.answers(batch)):
        world.tick(frame)
    assert world.states(task) == {"left": "complete", "right": "complete"}
    world.run()
    assert status(world) == "consistent"


def test_a_completion_without_partials_is_believed_after_the_grace(world: World) -> None:
    task, worker, batch = sent(world)
    world.tick(worker.completion(batch, words(batch, Word(), Word())))
    assert set(world.states(task).values()) == {"in_progress"}
    world.wait(grace(world))
    assert set(world.states(task).values()) == {"complete"}
    assert world.discrepancies() == ["completion_without_partial"] * 2
    assert status(world) == "discrepancy"
    assert world.batches()[0].state == "completed"
    world.run()


def test_a_completion_that_tells_of_a_failure_without_partial_fails_the_step(world: World) -> None:
    task, worker, batch = sent(world)
    world.tick(worker.completion(batch, words(batch, Word(), failing())))
    world.wait(grace(world))
    states = world.states(task)
    assert states[batch.steps[0].step_name] == "complete"
    assert states[batch.steps[1].step_name] == "waiting_for_retry"
    world.run()
    assert world.task(task).state == "complete"


def test_partials_that_come_within_the_grace_settle_it_without_a_difference(world: World) -> None:
    _, worker, batch = sent(world)
    *partials, completion = worker.answers(batch)
    world.tick(completion)
    world.wait(1)
    world.tick(*partials)
    assert status(world) == "consistent"
    world.wait(grace(world))
    assert world.discrepancies() == []
    world.run()


def test_a_partial_after_the_completion_was_believed_moves_nothing_but_is_compared_again(
    world: World,
) -> None:
    task, worker, batch = sent(world)
    *partials, completion = worker.answers(batch)
    world.tick(completion)
    world.wait(grace(world))
    assert world.discrepancies() == ["completion_without_partial"] * 2
    before = world.states(task)
    world.tick(*partials)
    assert world.verdicts() == ["applied", "duplicate", "duplicate"]
    assert world.states(task) == before
    assert (status(world), world.discrepancies()) == ("consistent", [])
    world.run()


def test_partials_without_a_completion_finish_the_task_and_are_noted_after_the_grace(
    world: World,
) -> None:
    task, worker, batch = sent(world)
    *partials, _ = worker.answers(batch)
    world.tick(*partials)
    assert world.task(task).state == "complete"
    assert world.discrepancies() == []
    world.wait(grace(world))
    assert world.discrepancies() == ["completion_missing"]
    assert status(world) == "discrepancy"
    world.run()


def test_a_late_completion_is_compared_again_and_takes_the_difference_away(world: World) -> None:
    _, worker, batch = sent(world)
    *partials, completion = worker.answers(batch)
    world.tick(*partials)
    world.wait(grace(world))
    assert world.discrepancies() == ["completion_missing"]
    world.tick(completion)
    assert (status(world), world.discrepancies()) == ("consistent", [])
    assert world.verdicts()[-1] == "applied"
    world.tick(completion)
    assert world.verdicts()[-1] == "duplicate"
    world.run()


def test_a_late_completion_of_an_orphaned_batch_is_compared_again(world: World) -> None:
    _, worker, batch = sent(world)
    worker.silent = True
    world.wait(20)
    assert world.batches()[0].state == "orphaned"
    assert world.discrepancies() == ["completion_missing"]
    world.tick(worker.completion(batch, words(batch, Word(), Word())))
    assert world.discrepancies() == ["completion_without_partial"] * 2
    world.worker("bert")
    world.run()


def test_accounts_that_contradict_each_other_are_a_discrepancy_and_the_partial_counts(
    world: World,
) -> None:
    task, worker, batch = sent(world)
    step_id = batch.steps[0].step_id
    other = batch.steps[1].step_id
    world.tick(
        worker.partial(batch, step_id, Word(output={"n": 1})),
        worker.partial(batch, other, Word(output={"n": 2})),
        worker.completion(batch, words(batch, Word(), failing())),
    )
    assert world.task(task).state == "complete"
    assert (status(world), world.discrepancies()) == ("discrepancy", ["status_differs"])
    world.run()


def test_a_completion_with_wrong_counts_is_a_discrepancy(world: World) -> None:
    _, worker, batch = sent(world)
    *partials, _ = worker.answers(batch)
    world.tick(*partials, worker.completion(batch, words(batch, Word(), Word())[:1]))
    assert sorted(world.discrepancies()) == ["partial_without_completion"]
    world.run()


def test_a_batch_error_alone_is_both_accounts(world: World) -> None:
    _, worker, batch = sent(world)
    world.tick(worker.batch_error(batch, StepError(message="broken", retryable=False)))
    assert (status(world), world.discrepancies()) == ("consistent", [])
    assert world.batches()[0].final_completion_received
    world.run()


def test_a_batch_error_stands_in_both_accounts_for_what_was_not_told(world: World) -> None:
    _, worker, batch = sent(world)
    partial = worker.partial(batch, batch.steps[0].step_id, Word())
    world.tick(partial)
    world.tick(worker.batch_error(batch, StepError(message="broken", retryable=False)))
    assert world.batches()[0].state == "partially_failed"
    assert (status(world), world.discrepancies()) == ("consistent", [])
    world.run()


def test_a_completion_that_contradicts_a_batch_error_is_a_discrepancy(world: World) -> None:
    _, worker, batch = sent(world)
    world.tick(worker.batch_error(batch, StepError(message="broken", retryable=False)))
    world.tick(worker.completion(batch, words(batch, Word(), failing())))
    assert world.verdicts() == ["applied", "duplicate"]
    assert (status(world), world.discrepancies()) == ("discrepancy", ["status_differs"])
    world.run()


def test_a_second_completion_that_says_something_else_is_compared(world: World) -> None:
    _, worker, batch = sent(world)
    world.tick(*worker.answers(batch))
    assert status(world) == "consistent"
    world.tick(worker.completion(batch, words(batch, Word(), failing())))
    assert world.verdicts()[-1] == "duplicate"
    assert (status(world), world.discrepancies()) == ("discrepancy", ["status_differs"])
    world.run()


def test_a_batch_of_which_nothing_was_ever_heard_lacks_its_completion(world: World) -> None:
    _, worker, _ = sent(world)
    worker.silent = True
    world.wait(20)
    assert world.batches()[0].state == "orphaned"
    assert (status(world), world.discrepancies()) == ("discrepancy", ["completion_missing"])
    world.worker("bert")
    world.run()


KINDS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["completed", "failed", "in_progress"])),
    max_size=5,
)


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    partials=KINDS,
    summaries=st.lists(KINDS, max_size=2),
    given_up=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_a_batchs_messages_gives_the_same_verdict(
    engine: Engine,
    *,
    partials: list[tuple[int, str]],
    summaries: list[list[tuple[int, str]]],
    given_up: bool,
    order: Random,
) -> None:
    """What is stored after each order is the same, and what the ledger gives again."""
    found = []
    for shuffled in (False, True):
        empty(engine)
        world = World(engine, ManualClock())
        _, worker, batch = sent(world)
        steps = [each.step_id for each in batch.steps]
        frames = [
            worker.partial(batch, steps[place], Word(status=said)) for place, said in partials
        ]
        frames += [
            worker.completion(batch, [(steps[place], Word(status=said)) for place, said in lines])
            for lines in summaries
        ]
        if given_up:
            frames.append(worker.batch_error(batch, StepError(message="broken")))
        if shuffled:
            frames += [each for each in frames if order.random() < 0.5]
            order.shuffle(frames)
        for frame in frames:
            world.tick(frame)
        worker.silent = True
        world.wait(20)
        batch_id = BatchId(world.batches()[0].batch_id)
        with engine.connect() as connection:
            (comparison,) = recompute(connection, [batch_id])
        assert comparison.stored == comparison.computed
        found.append(_by_place(comparison.computed, steps))
    assert found[0] == found[1]


def _by_place(found: Reconciliation, steps: list[StepId]) -> object:
    """Two worlds give their steps different ids; which is first and which second is the same."""
    return found.status, [
        (
            each.kind,
            steps.index(each.step_id) if each.step_id else None,
            each.partial_says,
            each.completion_says,
        )
        for each in found.differences
    ]
