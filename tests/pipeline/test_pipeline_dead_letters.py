"""What people decide about dead letters, through the daemon's command."""

from typing import Any

import msgspec

from tasker_zmq.domain.control import LetterAction
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
    Controlled,
    DeadLetterFilter,
    DecideDeadLetters,
)
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.deciding import (
    BY,
    CHAIN,
    WHY,
    Shop,
    asked,
    letters,
    task_events,
    transitions,
)


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
