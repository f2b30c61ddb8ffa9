"""Partial results and completions are two accounts; each may stand in for the other."""

from tasker_zmq.domain.ids import StepId, TaskId
from tasker_zmq.protocol.messages import StepBatch
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, template

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


def test_a_partial_after_the_completion_was_believed_is_a_duplicate(world: World) -> None:
    task, worker, batch = sent(world)
    *partials, completion = worker.answers(batch)
    world.tick(completion)
    world.wait(grace(world))
    before = world.states(task)
    world.tick(*partials)
    assert world.verdicts() == ["applied", "duplicate", "duplicate"]
    assert world.states(task) == before
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
