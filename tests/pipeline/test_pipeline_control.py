"""What people decide: dead letters, steps and tasks, through the daemon's commands."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tasker_zmq.domain.control import LetterAction, StepAction, TaskAction
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.commands import SUCCESS, CancelSteps, ErrorData
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
    Controlled,
    ControlSteps,
    ControlTasks,
    DeadLetterFilter,
    DecideDeadLetters,
)
from tasker_zmq.protocol.messages import StepError, StepRequest
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template

MakeWorld = Callable[..., World]
BY, WHY = "anna@desk", "the card works again"
CHAIN = {"a": Node(), "b": Node(after=("a",)), "c": Node(after=("b",))}


def asked(world: World, kind: str, payload: object, **more: Any) -> Controlled:
    reply = world.ask(kind, payload, **more)
    assert reply.payload.type == SUCCESS, bytes(reply.payload.data).decode()
    return msgspec.json.decode(reply.payload.data, type=Controlled)


def letters(
    world: World, action: str, *ids: int, results: bytes = b"null", **wanted: Any
) -> Controlled:
    chosen = None if ids else DeadLetterFilter(**wanted)
    request = DecideDeadLetters(
        action=LetterAction(action),
        dead_letter_ids=ids,
        filter=chosen,
        why=WHY,
        by=BY,
        results=msgspec.Raw(results),
    )
    return asked(world, "DecideDeadLetters", request)


def steps(
    world: World, action: str, *ids: int, results: bytes = b"null", **more: Any
) -> Controlled:
    request = ControlSteps(
        action=StepAction(action), step_ids=ids, why=WHY, by=BY, results=msgspec.Raw(results)
    )
    return asked(world, "ControlSteps", request, **more)


def tasks(world: World, action: str, *ids: int, after_id: int = 0) -> Controlled:
    request = ControlTasks(
        action=TaskAction(action), task_ids=ids, why=WHY, by=BY, after_id=after_id
    )
    return asked(world, "ControlTasks", request)


def failing(message: str = "card declined") -> Word:
    return Word(status="failed", error=StepError(message=message, retryable=False))


class Shop:
    """Handlers that fail in the steps named in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.seen: list[StepRequest] = []

    def __call__(self, request: StepRequest) -> Word:
        self.seen.append(request)
        if request.step_name in self.broken:
            return failing(f"{request.step_name} is broken")
        return Word(output={"from": request.step_name})


def transitions(world: World, step_id: int) -> list[tuple[str, str, str]]:
    found = world.rows(
        "SELECT from_state, event_name, to_state FROM tasker_workflow_step_transitions "
        "WHERE workflow_step_id = :s ORDER BY sort_key",
        s=step_id,
    )
    return [tuple(row) for row in found][1:]


def task_events(world: World, task_id: int) -> list[str]:
    found = world.rows(
        "SELECT event_name FROM tasker_task_transitions WHERE task_id = :t ORDER BY sort_key",
        t=task_id,
    )
    return [row.event_name for row in found]


def test_a_requeued_letter_gives_its_step_new_tries_and_its_task_new_life(world: World) -> None:
    retry = {"max_attempts": 2, "backoff": "constant", "backoff_base_ms": 1000}
    world.publish(template("chain", {**CHAIN, "b": Node(after=("a",), retry=retry)}))
    word = Word(status="failed", error=StepError(message="busy"))
    healed = False
    world.worker(
        handler=lambda request: word if request.step_name == "b" and not healed else Word()
    )
    task = world.submit("chain")
    world.run()
    (letter,) = world.dead_letters()
    ended = world.task(task)
    assert (ended.state, ended.failed_steps) == ("error", 1)

    healed = True
    assert letters(world, "requeue", letter.dead_letter_id).changed == (letter.dead_letter_id,)
    again = world.task(task)
    assert (again.state, again.failed_steps) == ("in_progress", 0)
    assert (again.completed_at, again.error) == (None, None)
    step = world.steps(task)["b"]
    assert (step.state, step.attempts, step.losses) == ("in_progress", 1, 0)
    (decided,) = world.dead_letters()
    assert (decided.status, decided.decided_by, decided.decision_reason) == ("requeued", BY, WHY)
    assert decided.decided_at == world.clock.now()
    world.run()
    assert world.task(task).state == "complete"
    assert task_events(world, task) == ["create", "start", "fail", "retry", "complete"]
    assert ("error", "retry", "pending") in transitions(world, step.workflow_step_id)


def test_who_decided_and_why_is_kept_with_the_transitions(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    task = world.submit("chain")
    world.run()
    steps(world, "retry", world.steps(task)["b"].workflow_step_id, command_id="mine")
    told = world.rows(
        "SELECT metadata FROM tasker_workflow_step_transitions WHERE metadata IS NOT NULL "
        "UNION ALL SELECT metadata::text::json FROM tasker_task_transitions "
        "WHERE metadata IS NOT NULL".replace("SELECT metadata ", "SELECT metadata::text::json ")
    )
    assert [row[0] for row in told] == [{"by": BY, "why": WHY, "command_id": "mine"}] * 2
    world.run()


def test_requeueing_twice_is_harmless_and_says_so(world: World) -> None:
    world.publish(template("chain", CHAIN))
    shop = Shop("b")
    world.worker(handler=shop)
    task = world.submit("chain")
    world.run()
    (letter,) = world.dead_letters()
    shop.broken.clear()
    letters(world, "requeue", letter.dead_letter_id)
    second = letters(world, "requeue", letter.dead_letter_id)
    assert (second.changed, second.already) == ((), (letter.dead_letter_id,))
    assert letters(world, "requeue").changed == ()
    world.run()
    assert [request.step_name for request in shop.seen] == ["a", "b", "b", "c"]
    assert world.task(task).state == "complete"


def test_a_command_that_comes_twice_retries_a_step_once(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    step_id = world.steps(world.submit("chain"))["b"].workflow_step_id
    world.run()
    assert steps(world, "retry", step_id, command_id="once").changed == (step_id,)
    world.run()
    again = steps(world, "retry", step_id, command_id="once")
    assert (again.changed, again.already) == ((), (step_id,))
    assert steps(world, "retry", step_id, command_id="twice").changed == (step_id,)
    world.run()


def test_a_resolved_step_counts_as_done_and_its_children_get_the_given_results(
    world: World,
) -> None:
    world.publish(template("chain", CHAIN))
    shop = Shop("b")
    world.worker(handler=shop)
    task = world.submit("chain")
    world.run()
    (letter,) = world.dead_letters()
    letters(world, "resolve", letter.dead_letter_id, results=b'{"paid": 1.50}')
    world.run()
    assert world.states(task) == {"a": "complete", "b": "resolved_manually", "c": "complete"}
    assert b'{"paid": 1.50}' in bytes(shop.seen[-1].previous_results)  # to the byte
    assert world.task(task).state == "complete"
    assert world.dead_letters()[0].status == "resolved"


def test_resolving_the_last_leaf_completes_the_task(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("c"))
    task = world.submit("chain")
    world.run()
    letters(world, "resolve")
    ended = world.task(task)
    assert (ended.state, ended.unfinished_leaves, ended.failed_steps) == ("complete", 0, 0)
    assert ended.completed_at == world.clock.now()
    assert ended.error is None
    assert task_events(world, task) == ["create", "start", "fail", "retry", "complete"]


def test_a_task_that_never_started_may_be_resolved_to_its_end(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    task = world.submit("one")
    steps(world, "resolve", world.steps(task)["a"].workflow_step_id)
    assert task_events(world, task) == ["create", "start", "complete"]
    worker = world.worker()
    world.run()
    assert worker.requests == []


def test_a_discarded_letter_is_closed_and_changes_nothing_else(world: World) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    task = world.submit("chain")
    world.run()
    before = (world.states(task), world.task(task))
    (letter,) = world.dead_letters()
    assert letters(world, "discard", letter.dead_letter_id).changed == (letter.dead_letter_id,)
    assert (world.states(task), world.task(task)) == before
    assert world.dead_letters()[0].status == "discarded"
    refused = letters(world, "requeue", letter.dead_letter_id)
    assert refused.already == (letter.dead_letter_id,)


def test_one_of_two_failures_resolved_leaves_the_task_failed_for_the_other(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node()}))
    world.worker(handler=Shop("a", "b"))
    task = world.submit("two")
    world.run()
    first = min(row.dead_letter_id for row in world.dead_letters())
    letters(world, "resolve", first)
    ended = world.task(task)
    assert (ended.state, ended.failed_steps) == ("error", 1)
    assert ended.error == {"failed_steps": ["b"]}
    letters(world, "resolve")
    assert world.task(task).state == "complete"


def test_filters_choose_letters_by_what_is_known_of_them(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node()}), template("one", {"a": Node()}))
    world.worker(handler=Shop("a", "b"))
    two, one = world.submit("two"), world.submit("one")
    world.run()
    wrong: tuple[dict[str, Any], ...] = (
        {"step": "z"},
        {"task_id": one + two},
        {"workflow": "three"},
        {"namespace": "elsewhere"},
        {"version": "9"},
        {"reason": "in_doubt"},
        {"fingerprint": "0"},
        {"since": "2999-01-01T00:00:00Z"},
        {"status": "requeued"},
    )
    for wanted in wrong:
        assert letters(world, "discard", **wanted).changed == (), wanted
    assert len(letters(world, "discard", workflow="one", step="a").changed) == 1
    assert len(letters(world, "discard", task_id=two, reason="permanent_error").changed) == 2
    assert {row.status for row in world.dead_letters()} == {"discarded"}


def test_thousands_of_letters_are_requeued_a_page_at_a_time(world: World) -> None:
    count = CONTROLLED_MAX + 5
    world.publish(template("one", {"a": Node()}))
    shop = Shop("a")
    world.worker(handler=shop, concurrency=5_000)
    for size in (500, count - 500):
        world.submit_many("one", size)
    world.run()
    assert len(world.dead_letters()) == count
    request = DecideDeadLetters(
        action=LetterAction.REQUEUE, filter=DeadLetterFilter(), why=WHY, by=BY
    )
    # Both in one tick: the second finds the tick's allowance used up.
    before = len(world.letters)
    world.tick(*(world.command("DecideDeadLetters", request) for _ in range(2)))
    first, second = (
        msgspec.json.decode(reply.payload.data, type=Controlled)
        for _, reply in world.letters[before:]
        if reply.command_type == "Controlled"
    )
    assert (len(first.changed), len(second.changed)) == (CONTROLLED_MAX, 0)
    assert (second.after_id, second.up_to_id) == (0, first.up_to_id)
    world.run()  # they fail again: new letters, which the rest of this command leaves alone
    rest = asked(
        world,
        "DecideDeadLetters",
        msgspec.structs.replace(request, after_id=first.after_id, up_to_id=first.up_to_id),
    )
    assert (len(rest.changed), rest.after_id) == (5, None)
    world.run()
    assert len(shop.seen) == 2 * count


def test_steps_are_moved_along_their_arrows_only_and_a_refusal_names_what_is_possible(
    world: World,
) -> None:
    world.publish(template("chain", CHAIN))
    world.worker(handler=Shop("b"))
    task = world.submit("chain")
    running = world.steps(task)["a"].workflow_step_id
    (refusal,) = steps(world, "cancel", running).refused
    assert "is in_progress: a worker has it" in refusal.message
    world.run()
    ids = {name: step.workflow_step_id for name, step in world.steps(task).items()}
    refused = steps(world, "retry", *ids.values(), 999_999).refused
    assert [(each.id, each.code) for each in refused] == [
        (ids["a"], "refused"),
        (ids["c"], "refused"),
        (999_999, "not_found"),
    ]
    assert "is complete; there is possible: nothing" in refused[0].message
    assert "is pending; there is possible: resolve, cancel" in refused[1].message
    (waits,) = steps(world, "resolve", ids["c"]).refused
    assert "still waits for 1 steps before it" in waits.message
    world.run()


def test_a_step_that_waits_for_its_retry_is_tried_at_once(world: World) -> None:
    retry = {"max_attempts": 3, "backoff_base_ms": 60_000, "max_backoff_ms": 60_000}
    world.publish(template("one", {"a": Node(retry=retry)}))
    busy = Word(status="failed", error=StepError(message="busy"))
    worker = world.worker(handler=lambda request: busy if request.metadata.attempt == 0 else Word())
    task = world.submit("one")
    world.tick(*world.work())
    assert world.states(task) == {"a": "waiting_for_retry"}
    steps(world, "retry", world.steps(task)["a"].workflow_step_id)
    assert len(worker.requests) == 2
    assert worker.requests[-1].metadata.attempt == 1
    world.run()


def test_a_cancelled_step_ends_its_task_in_error_once_nothing_else_can_proceed(
    world: World,
) -> None:
    world.publish(template("two", {"a": Node(), "b": Node(after=("a",)), "x": Node()}))
    world.worker()
    task = world.submit("two")
    step_id = world.steps(task)["b"].workflow_step_id
    assert steps(world, "cancel", step_id).changed == (step_id,)
    assert world.task(task).state == "in_progress"
    assert steps(world, "cancel", step_id).already == (step_id,)
    world.run()
    ended = world.task(task)
    assert (ended.state, ended.failed_steps) == ("error", 1)
    assert ended.error == {"failed_steps": [], "cancelled_steps": ["b"]}
    (refusal,) = tasks(world, "retry", task).refused
    assert "none of its steps stands in error; 1 were cancelled" in refusal.message


def test_cancelling_the_only_step_of_a_task_that_never_started_ends_it(world: World) -> None:
    world.publish(template("one", {"a": Node()}))
    task = world.submit("one")
    steps(world, "cancel", world.steps(task)["a"].workflow_step_id)
    assert world.task(task).state == "error"
    assert task_events(world, task) == ["create", "fail"]


def test_a_step_in_doubt_is_retried_resolved_or_cancelled_by_a_person(world: World) -> None:
    world.publish(template("one", {"a": Node(retry={"retryable": False})}))
    worker = world.worker()
    ids = world.submit_many("one", 3)
    worker.silent = True
    world.wait(world.tuning.session_dead_seconds + 1)
    assert {world.states(task)["a"] for task in ids} == {"in_doubt"}
    retried, resolved, cancelled = (world.steps(task)["a"].workflow_step_id for task in ids)
    steps(world, "retry", retried)
    steps(world, "resolve", resolved)
    steps(world, "cancel", cancelled)
    world.worker("berta")
    world.run()
    assert [world.task(task).state for task in ids] == ["complete", "complete", "error"]


def test_nothing_of_a_paused_task_starts_and_all_that_is_ready_starts_when_it_is_resumed(
    world: World,
) -> None:
    world.publish(template("fan", {"a": Node(), "b": Node(after=("a",)), "x": Node()}))
    worker = world.worker(concurrency=1, handlers=("tests.work",))
    task = world.submit("fan")
    sent = len(worker.requests)
    assert tasks(world, "pause", task).changed == (task,)
    assert tasks(world, "pause", task).already == (task,)
    world.tick(*world.work())  # what runs may end
    world.wait(60)
    assert len(worker.requests) == sent
    assert world.states(task)["b"] == "pending"
    assert world.task(task).paused
    assert tasks(world, "resume", task).changed == (task,)
    assert len(worker.requests) > sent
    world.run()
    assert world.task(task).state == "complete"
    (refusal,) = tasks(world, "pause", task).refused
    assert "is complete; can be paused: pending, in_progress" in refusal.message


def test_a_pause_in_the_very_tick_of_a_result_holds_the_next_step(world: World) -> None:
    world.publish(template("chain", CHAIN))
    worker = world.worker()
    task = world.submit("chain")
    frames = world.work()
    request = ControlTasks(action=TaskAction.PAUSE, task_ids=(task,), why=WHY, by=BY)
    world.tick(*frames, world.command("ControlTasks", request))
    world.wait(30)
    assert [each.step_name for each in worker.requests] == ["a"]
    tasks(world, "resume", task)
    world.run()


def test_a_retry_of_a_task_requeues_all_its_failed_steps(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node(), "c": Node(after=("a", "b"))}))
    shop = Shop("a", "b")
    world.worker(handler=shop)
    task = world.submit("two")
    world.run()
    shop.broken.clear()
    assert tasks(world, "retry", task).changed == (task,)
    world.run()
    assert world.task(task).state == "complete"
    assert {row.status for row in world.dead_letters()} == {"requeued"}
    (refusal,) = tasks(world, "retry", task).refused
    assert "is complete; can be retried" in refusal.message


def test_a_cancelled_task_ends_and_what_waits_of_it_never_starts(world: World) -> None:
    world.publish(template("chain", {**CHAIN, "x": Node()}))
    world.worker(handler=Shop("x"))
    task = world.submit("chain")
    world.tick(*world.work())
    assert world.states(task)["x"] == "error"
    assert tasks(world, "cancel", task).changed == (task,)
    ended = world.task(task)
    assert (ended.state, ended.completed_at) == ("cancelled", world.clock.now())
    assert world.states(task) == {
        "a": "complete",
        "b": "in_progress",
        "c": "cancelled",
        "x": "cancelled",
    }
    assert world.dead_letters()[0].status == "discarded"
    assert tasks(world, "cancel", task).already == (task,)
    (refusal,) = steps(world, "resolve", world.steps(task)["x"].workflow_step_id).refused
    assert "is cancelled for good" in refusal.message
    world.run()


def test_workers_are_told_which_running_steps_nobody_wants_any_more(world: World) -> None:
    world.publish(template("two", {"a": Node(), "b": Node()}))
    worker = world.worker("berta")
    task = world.submit("two")
    kept = world.submit("two")
    before = len(world.letters)
    tasks(world, "cancel", task)
    told = [
        msgspec.json.decode(letter.payload.data, type=CancelSteps)
        for route, letter in world.letters[before:]
        if letter.command_type == "CancelSteps" and route == worker.route
    ]
    (cancel,) = told
    assert (cancel.session_id, cancel.reason) == (worker.session_id, WHY)
    named = {step_id for each in cancel.steps for step_id in each.step_ids}
    assert named == {step.workflow_step_id for step in world.steps(task).values()}
    world.run()
    assert world.task(kept).state == "complete"


def test_a_task_with_thousands_of_steps_is_cancelled_at_once_and_its_steps_in_pages(
    world: World,
) -> None:
    count = CONTROLLED_MAX + 5
    world.publish(template("wide", {f"s{number}": Node() for number in range(count)}))
    task = world.submit("wide")
    first = tasks(world, "cancel", task)
    assert first.changed == (task,)
    assert first.after_id is not None
    worker = world.worker(concurrency=5_000)
    assert worker.requests == []
    assert tasks(world, "cancel", task, after_id=first.after_id).after_id is None
    assert set(world.states(task).values()) == {"cancelled"}


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        ("ControlTasks", {"action": "cancel", "task_ids": [1], "why": "  ", "by": "x"}, "'why'"),
        ("ControlTasks", {"action": "cancel", "task_ids": [1], "why": "x"}, "'by' is empty"),
        ("ControlTasks", {"action": "cancel", "task_ids": [], "why": "x", "by": "x"}, "0 tasks"),
        ("ControlTasks", {"action": "stop", "task_ids": [1], "why": "x", "by": "x"}, "stop"),
        (
            "ControlSteps",
            {"action": "retry", "step_ids": list(range(1_001)), "why": "x", "by": "x"},
            "1001 steps",
        ),
        ("DecideDeadLetters", {"action": "requeue", "why": "x", "by": "x"}, "either"),
        (
            "DecideDeadLetters",
            {"action": "discard", "why": "x", "by": "x", "filter": {"since": "soon"}},
            "since is 'soon'",
        ),
        (
            "DecideDeadLetters",
            {"action": "discard", "why": "x" * 1_001, "by": "x", "filter": {}},
            "1001 characters",
        ),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_with_what_was_wanted(
    world: World, kind: str, payload: dict[str, Any], said: str
) -> None:
    reply = world.ask(kind, msgspec.json.encode(payload))
    error = msgspec.json.decode(reply.payload.data, type=ErrorData)
    assert (error.code, said in error.message) == ("invalid", True), error.message


def test_a_task_that_another_living_core_runs_is_left_to_that_core(make_world: MakeWorld) -> None:
    first = make_world(core_id="core-1")
    first.publish(template("two", {"a": Node(), "x": Node()}))
    first.worker(handler=Shop("x"))
    task: TaskId = first.submit("two")
    frames = first.work()
    first.tick(*[frame for frame in frames if b'"failed"' in frame.frames[0]][:1])
    second = make_world(core_id="core-2", seed=2)
    broken = first.steps(task)["x"]
    assert (broken.state, first.states(task)["a"]) == ("error", "in_progress")
    (refusal,) = steps(second, "retry", broken.workflow_step_id).refused
    assert "daemon 'core-1' has steps of that task running" in refusal.message
    first.tick(*frames)
    assert first.task(task).state == "error"
    second.worker("berta")
    assert steps(second, "retry", broken.workflow_step_id).changed == (broken.workflow_step_id,)
    second.run()
    ended = second.task(task)
    assert (ended.state, ended.processing_core_id) == ("complete", "core-2")
