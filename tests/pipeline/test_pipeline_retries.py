"""Failed steps are tried again as often as they may be, not sooner than they may be."""

from typing import Any

import pytest

from tasker_zmq.protocol.messages import StepError, StepRequest
from tasker_zmq.testing.simulated_worker import Word, failing
from tasker_zmq.testing.world import NAMESPACE, VERSION, Node, World, template


def always_failing(_: StepRequest) -> Word:
    return failing()


def newer(**retry: Any) -> dict[str, Any]:
    return template("one", {"a": Node(retry={"backoff_base_ms": 100, **retry})})


def older(**fields: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "namespace_name": NAMESPACE,
        "version": VERSION,
        "task_handler_class": "One",
        "step_templates": [{"name": "a", "handler_class": "tests.work", **fields}],
    }


@pytest.mark.parametrize(
    ("workflow", "runs"),
    [
        (newer(max_attempts=0), 1),
        (newer(max_attempts=1), 1),
        (newer(max_attempts=3), 3),
        (newer(max_attempts=3, retryable=False), 1),
        (newer(), 3),
        (older(default_retry_limit=0), 1),
        (older(default_retry_limit=1), 2),
        (older(default_retry_limit=3), 4),
        (older(default_retry_limit=3, default_retryable=False), 1),
        (older(), 4),
    ],
)
def test_a_failing_step_runs_as_often_as_its_template_says(
    world: World, workflow: dict[str, Any], runs: int
) -> None:
    world.publish(workflow)
    worker = world.worker(handler=always_failing)
    task = world.submit("one")
    world.run()
    assert [request.metadata.attempt for request in worker.requests] == list(range(runs))
    step = world.steps(task)["a"]
    assert (step.state, step.attempts) == ("error", runs)
    assert step.error["message"] == "it broke"
    assert world.task(task).state == "error"
    (letter,) = world.dead_letters()
    assert letter.reason == "max_attempts_exceeded"
    assert letter.snapshot["attempts"] == runs


def test_a_step_that_is_not_retryable_runs_the_first_time(world: World) -> None:
    world.publish(newer(retryable=False))
    world.worker()
    task = world.submit("one")
    world.run()
    assert world.states(task) == {"a": "complete"}


def test_a_permanent_error_ends_the_step_at_once(world: World) -> None:
    world.publish(newer(max_attempts=9))
    worker = world.worker(handler=lambda _: failing(retryable=False))
    task = world.submit("one")
    world.run()
    assert len(worker.requests) == 1
    assert world.states(task) == {"a": "error"}
    assert world.dead_letters()[0].reason == "permanent_error"


def test_a_permanent_error_may_also_be_said_at_the_top_level(world: World) -> None:
    world.publish(newer(max_attempts=9))
    worker = world.worker(
        handler=lambda _: Word(status="error", retryable=False, error=StepError(message="no"))
    )
    world.submit("one")
    world.run()
    assert len(worker.requests) == 1


def test_waits_grow_stay_under_the_ceiling_and_are_spread(world: World) -> None:
    world.publish(newer(max_attempts=8, backoff_base_ms=1_000, max_backoff_ms=5_000))
    world.worker(handler=always_failing)
    task = world.submit("one")
    waits: list[float] = []
    while world.task(task).completed_at is None:
        world.tick(*world.work())
        step = world.steps(task)["a"]
        if step.state == "waiting_for_retry":
            wait = (step.next_attempt_at - world.clock.now()).total_seconds()
            waits.append(wait)
            world.wait(wait - 0.01)
            assert world.states(task) == {"a": "waiting_for_retry"}
            world.wait(0.02)
            assert world.states(task) == {"a": "in_progress"}
    assert len(waits) == 7
    for number, wait in enumerate(waits):
        most = min(2.0**number, 5.0)
        assert most / 2 <= wait <= most
    assert len(set(waits)) > 3
    world.run()


def test_a_wait_that_the_worker_asks_for_is_honoured(world: World) -> None:
    world.publish(newer(max_attempts=2))
    word = Word(status="failed", error=StepError(message="later", retry_after_seconds=40))
    worker = world.worker(handler=lambda _: word)
    world.submit("one")
    world.tick(*world.work())
    world.wait(39)
    assert len(worker.requests) == 1
    world.wait(2)
    assert len(worker.requests) == 2
    world.run()


def test_a_step_that_recovers_completes_its_task_and_keeps_no_error(world: World) -> None:
    world.publish(template("pair", {"a": Node(retry={"max_attempts": 3}), "b": Node(after=("a",))}))
    world.worker(
        handler=lambda request: (
            failing() if request.metadata.attempt < 2 and request.step_name == "a" else Word()
        )
    )
    task = world.submit("pair")
    world.run()
    assert world.task(task).state == "complete"
    step = world.steps(task)["a"]
    assert (step.attempts, step.error) == (3, None)
    assert world.dead_letters() == []


PARALLEL = {
    "start": Node(),
    "bad": Node(after=("start",)),
    "never": Node(after=("bad",)),
    "good": Node(after=("start",), retry={"max_attempts": 3}),
    "better": Node(after=("good",)),
    "end": Node(after=("never", "better")),
}


def test_a_task_ends_in_error_only_when_nothing_else_can_proceed(world: World) -> None:
    world.publish(template("parallel", PARALLEL))
    states: list[tuple[str, str]] = []

    def handler(request: StepRequest) -> Word:
        states.append((request.step_name, world.task(request.task_id).state))
        if request.step_name == "bad":
            return failing(retryable=False)
        if request.step_name == "good" and request.metadata.attempt < 2:
            return failing()
        return Word()

    world.worker(handler=handler)
    task = world.submit("parallel")
    world.run()
    assert {state for _, state in states} == {"in_progress"}
    assert states[-1][0] == "better"
    assert world.states(task) == {
        "start": "complete",
        "bad": "error",
        "never": "pending",
        "good": "complete",
        "better": "complete",
        "end": "pending",
    }
    ended = world.task(task)
    assert (ended.state, ended.error) == ("error", {"failed_steps": ["bad"]})


def test_a_failing_task_does_not_hold_up_another(world: World) -> None:
    world.publish(newer(max_attempts=3, backoff_base_ms=60_000, max_backoff_ms=60_000))
    failing_task = TaskBox()
    world.worker(
        handler=lambda request: failing() if request.task_id == failing_task.task_id else Word()
    )
    failing_task.task_id = world.submit("one")
    fine = world.submit("one")
    world.tick(*world.work())
    assert world.task(fine).state == "complete"
    assert world.task(failing_task.task_id).state == "in_progress"
    world.run()


class TaskBox:
    task_id: int = 0
