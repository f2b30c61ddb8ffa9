"""ExecuteBatch: steps for one worker that somebody names, or for each the reason why not."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker_zmq.domain.breaker import BreakerLimits
from tasker_zmq.domain.control import StepAction, TaskAction
from tasker_zmq.domain.ids import StepId, TaskId
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol.commands import ERROR, SupportedTask
from tasker_zmq.protocol.control import ControlSteps, ControlTasks
from tasker_zmq.protocol.executing import BatchesSent, ExecuteBatch
from tasker_zmq.protocol.workers import ManageAction, ManageWorker, PinTarget
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import NAMESPACE, VERSION, Node, World, template
from tests.pipeline.conftest import MakeWorld

CHAIN = template("chain", {"first": Node(), "second": Node(after=("first",))})
WIDE = template("wide", {name: Node(handler="tests.wide") for name in "abcd"})


def steps_of(world: World, task_id: TaskId) -> dict[str, StepId]:
    return {name: row.workflow_step_id for name, row in world.steps(task_id).items()}


def sent(
    world: World, step_ids: Sequence[int], *, worker: str = "anna", **more: Any
) -> BatchesSent:
    asked = ExecuteBatch(worker_name=worker, step_ids=tuple(StepId(each) for each in step_ids))
    reply = world.ask("ExecuteBatch", asked, **more)
    assert reply.payload.type != ERROR, bytes(reply.payload.data)
    return msgspec.json.decode(reply.payload.data, type=BatchesSent)


def refused(world: World, step_ids: Sequence[int], *, worker: str = "anna") -> dict[str, Any]:
    asked = ExecuteBatch(worker_name=worker, step_ids=tuple(StepId(each) for each in step_ids))
    reply = world.ask("ExecuteBatch", asked)
    assert reply.payload.type == ERROR
    return dict(msgspec.json.decode(reply.payload.data))


def manage(world: World, action: ManageAction, **more: Any) -> None:
    asked = ManageWorker(action=action, by="ann", why="test", **more)
    assert world.ask("ManageWorker", asked).payload.type != ERROR


def crew(world: World, *names: str, **more: Any) -> list[SimulatedWorker]:
    """Workers that have not subscribed yet: so nothing is sent to them of itself."""
    more = {"handlers": ["tests.wide", "tests.work"], "subscribed": False, **more}
    return [world.worker(name, **more) for name in names]


def opened(world: World, workers: Sequence[SimulatedWorker]) -> None:
    """Their subscriptions are seen, and no tick has come since."""
    for each in workers:
        world.session(each).subscribed = True


def submitted(world: World, name: str = "wide") -> list[StepId]:
    """The steps of a new task in their order."""
    return sorted(steps_of(world, world.submit(name)).values())


def attempts(world: World) -> set[int]:
    return {row.attempts for row in world.rows("SELECT attempts FROM tasker_workflow_steps")}


def reasons(told: BatchesSent) -> dict[int, str]:
    return {each.id: f"{each.code}: {each.message}" for each in told.refused}


def test_steps_go_to_the_worker_that_is_named_in_a_batch_of_their_own(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna", "bert")
    step_ids = submitted(world)
    opened(world, workers)
    told = sent(world, step_ids[:2], worker="bert")
    (batch,) = told.batches
    assert (batch.step_ids, told.refused) == (tuple(step_ids[:2]), ())
    assert (told.worker_name, told.session_id) == ("bert", workers[1].session_id)
    row = next(each for each in world.batches() if str(each.batch_uuid) == batch.batch_id)
    assert (row.session_id, row.batch_size) == (workers[1].session_id, 2)
    world.run()
    assert attempts(world) == {1}
    assert world.discrepancies() == []


def test_a_tick_with_a_directed_batch_sends_nobody_more_than_its_credit(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna", concurrency=1)
    credit = world.session(workers[0]).credit
    step_ids = [each for _ in range(credit) for each in submitted(world)]
    opened(world, workers)
    told = sent(world, step_ids[-2:])
    assert [each.step_ids for each in told.batches] == [tuple(step_ids[-2:])]
    assert len(world.session(workers[0]).holding) == credit
    assert set(step_ids[-2:]) <= world.session(workers[0]).holding.keys()
    world.run()


def test_what_a_worker_has_no_room_for_is_refused_and_waits(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna", concurrency=1)
    credit = world.session(workers[0]).credit
    step_ids = [each for _ in range(credit) for each in submitted(world)]
    opened(world, workers)
    told = sent(world, step_ids)
    assert sum(len(each.step_ids) for each in told.batches) == credit
    assert len(told.refused) == len(step_ids) - credit
    assert all("credit" in each for each in reasons(told).values())
    world.run()
    assert attempts(world) == {1}


def test_a_command_that_comes_twice_sends_once_and_is_answered_alike(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna")
    step_ids = submitted(world)
    opened(world, workers)
    asked = ExecuteBatch(worker_name="anna", step_ids=tuple(step_ids[:1]))
    twice = [world.command("ExecuteBatch", asked, command_id="twice") for _ in range(2)]
    before = len(world.letters)
    world.tick(*twice)
    assert len(world.letters) == before + 1  # of one tick: one answer
    first = world.letters[-1][1].payload
    assert world.ask("ExecuteBatch", asked, command_id="twice").payload == first
    assert sent(world, step_ids[:1]).batches == ()  # another command: it is in progress
    world.run()


def test_two_commands_of_one_tick_share_no_step(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna", "bert")
    step_ids = submitted(world)
    opened(world, workers)
    wishes = [
        ExecuteBatch(worker_name="anna", step_ids=tuple(step_ids[:2])),
        ExecuteBatch(worker_name="bert", step_ids=tuple(step_ids[1:3])),
    ]
    before = len(world.letters)
    world.tick(*(world.command("ExecuteBatch", each) for each in wishes))
    told = [
        msgspec.json.decode(reply.payload.data, type=BatchesSent)
        for _, reply in world.letters[before:]
    ]
    assert [[each.step_ids for each in one.batches] for one in told] == [
        [tuple(step_ids[:2])],
        [tuple(step_ids[2:3])],
    ]
    assert "another command" in reasons(told[1])[step_ids[1]]
    world.run()


def test_each_step_that_cannot_be_sent_says_why(world: World) -> None:
    world.publish(CHAIN, WIDE)
    workers = crew(world, "anna", handlers=["tests.work"])
    paused, chain, wide = world.submit("chain"), world.submit("chain"), world.submit("wide")
    at = world.clock.now() + timedelta(hours=2)
    later = world.submit("chain", scheduled_for=at.isoformat())
    asked = ControlTasks(action=TaskAction.PAUSE, task_ids=(paused,), why="test", by="ann")
    assert world.ask("ControlTasks", asked).payload.type != ERROR
    opened(world, workers)
    names = [steps_of(world, each) for each in (paused, chain, wide, later)]
    step_ids = [
        names[0]["first"],
        names[1]["first"],
        names[1]["second"],
        names[2]["a"],
        names[3]["first"],
    ]
    told = sent(world, [*step_ids, 999_999])
    assert [each.step_ids for each in told.batches] == [(names[1]["first"],)]
    said = reasons(told)
    for step_id, word in (
        (step_ids[0], "paused"),
        (step_ids[2], "waits for first"),
        (step_ids[3], "no handler 'tests.wide'"),
        (step_ids[4], "scheduled to begin in 2 h"),
    ):
        assert word in said[step_id]
    assert said[999_999].startswith("not_found")
    again = sent(world, step_ids[1:2])
    assert "in progress on worker anna" in reasons(again)[step_ids[1]]
    world.wait(1)
    for frame in world.work():
        world.tick(frame)
    assert "is complete" in reasons(sent(world, step_ids[1:2]))[step_ids[1]]
    resumed = ControlTasks(action=TaskAction.CANCEL, task_ids=(paused, wide), why="t", by="ann")
    assert world.ask("ControlTasks", resumed).payload.type != ERROR


@pytest.mark.parametrize("action", [ManageAction.DRAIN, ManageAction.DISABLE])
def test_a_worker_that_is_to_get_nothing_new_gets_nothing(
    world: World, action: ManageAction
) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna")
    step_ids = submitted(world)
    manage(world, action, worker_name="anna")
    opened(world, workers)
    told = sent(world, step_ids)
    assert told.batches == ()
    assert all(f"is {action}" in each for each in reasons(told).values())
    manage(world, ManageAction.ENABLE, worker_name="anna")
    world.run()


def test_a_worker_that_is_drained_in_the_same_tick_gets_nothing(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna")
    step_ids = submitted(world)
    opened(world, workers)
    drained = ManageWorker(worker_name="anna", action=ManageAction.DRAIN, by="ann")
    asked = ExecuteBatch(worker_name="anna", step_ids=tuple(step_ids))
    world.tick(world.command("ManageWorker", drained), world.command("ExecuteBatch", asked))
    assert world.batches() == []
    assert b"decided just now" in bytes(world.letters[-1][1].payload.data)
    manage(world, ManageAction.ENABLE, worker_name="anna")
    world.run()


def test_steps_that_are_pinned_to_others_are_refused(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna", "bert")
    pin = PinTarget(handler_class="tests.wide")
    manage(world, ManageAction.PIN, worker_name="bert", pin=pin)
    step_ids = submitted(world)
    opened(world, workers)
    told = sent(world, step_ids[:1])
    assert (told.batches, "pinned to bert" in reasons(told)[step_ids[0]]) == ((), True)
    world.run()


def test_a_worker_that_declared_other_workflows_only_is_not_sent_them(world: World) -> None:
    world.publish(WIDE, CHAIN)
    known = SupportedTask(namespace=NAMESPACE, name="chain", version=VERSION)
    workers = crew(world, "anna", supported_tasks=(known,), exclusive=True)
    step_ids = submitted(world)
    opened(world, workers)
    told = sent(world, step_ids[:1])
    assert (told.batches, "does not take" in reasons(told)[step_ids[0]]) == ((), True)
    opened(world, crew(world, "bert"))
    world.run()


def test_nobody_by_that_name_is_told_with_the_nearest(world: World) -> None:
    world.worker("anna")
    told = refused(world, [1], worker="ana")
    assert (told["code"], told["hint"]) == ("not_found", "did you mean 'anna'?")


def test_workers_and_steps_of_other_cores_are_told_with_their_addresses(
    world: World, make_world: MakeWorld
) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.publish(WIDE)
    crew(world, "anna")
    crew(other, "bert")
    step_ids = submitted(world)
    there = {"core_id": "core-2", "commands": "ipc://core-2"}
    told = refused(world, step_ids, worker="bert")
    assert (told["code"], told["core"]) == ("elsewhere", there)
    crew(other, "anna", former_session_ids=())
    told = refused(other, step_ids, worker="anna")
    assert (told["code"], told["core"]["core_id"]) == ("elsewhere", "core-1")
    own = submitted(other)
    opened(other, crew(other, "carl"))
    mixed = sent(other, [step_ids[0], own[0]], worker="carl")
    assert [each.step_ids for each in mixed.batches] == [(own[0],)]
    assert reasons(mixed)[step_ids[0]].startswith("elsewhere")
    opened(world, crew(world, "dora"))
    world.tick()
    other.run()


def test_steps_of_a_core_that_died_wait_for_the_sweep_and_say_so(
    world: World, make_world: MakeWorld
) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.publish(WIDE)
    step_ids = submitted(other)
    world.clock.advance(other.tuning.core_lease_seconds + 1)
    world.state.next_sweep_at = world.clock.now() + timedelta(hours=1)
    world.state.neighbours.clear()
    workers = crew(world, "anna")
    opened(world, workers)
    said = reasons(sent(world, step_ids[:1]))[step_ids[0]]
    assert "core 'core-2'" in said
    assert "does not run" in said
    world.state.next_sweep_at = world.clock.now()
    world.run()


def test_steps_that_ask_first_go_in_a_batch_apart(world: World) -> None:
    once = template("once", {"pay": Node(retry={"retryable": False}), "tell": Node()})
    world.publish(once)
    workers = crew(world, "anna", confirms_start=True)
    step_ids = submitted(world, "once")
    opened(world, workers)
    told = sent(world, step_ids)
    assert sorted(each.step_ids for each in told.batches) == [(each,) for each in step_ids]
    world.run()


def test_a_step_that_is_cancelled_in_the_same_tick_is_not_sent(world: World) -> None:
    world.publish(WIDE)
    workers = crew(world, "anna")
    step_ids = submitted(world)
    opened(world, workers)
    asked = ExecuteBatch(worker_name="anna", step_ids=tuple(step_ids[:1]))
    cancel = ControlSteps(
        action=StepAction.CANCEL, step_ids=tuple(step_ids[:1]), why="test", by="ann"
    )
    before = len(world.letters)
    world.tick(world.command("ExecuteBatch", asked), world.command("ControlSteps", cancel))
    replies = {reply.command_type: reply.payload.data for _, reply in world.letters[before:]}
    told = msgspec.json.decode(replies["BatchesSent"], type=BatchesSent)
    assert (told.batches, "just moved it" in reasons(told)[step_ids[0]]) == ((), True)
    world.run()


def test_a_session_is_sent_no_more_bytes_than_any_other_way(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(session_bytes_max=3_000))
    world.publish(WIDE)
    workers = crew(world, "anna")
    step_ids = submitted(world)
    opened(world, workers)
    told = sent(world, step_ids)
    assert [len(each.step_ids) for each in told.batches] == [2]
    assert [("as many bytes" in each) for each in reasons(told).values()] == [True, True]
    world.run()
    assert attempts(world) == {1}


def test_whoever_names_a_worker_passes_over_its_breaker(make_world: MakeWorld) -> None:
    limits = BreakerLimits(failures=1, cool_off_seconds=3_600, cool_off_seconds_max=3_600)
    world = make_world(tuning=Tuning(breaker=limits))
    retry = {"max_attempts": 5, "backoff_base_ms": 0}
    world.publish(template("flaky", {"a": Node(retry=retry)}))
    words = iter([failing("no route", retryable=True), Word(output={})])
    anna = world.worker("anna", handler=lambda _: next(words))
    task_id = world.submit("flaky")
    for _ in range(20):
        world.tick(*world.work())
    assert (len(anna.requests), world.states(task_id)) == (1, {"a": "pending"})
    told = sent(world, list(steps_of(world, task_id).values()))
    assert ([len(each.step_ids) for each in told.batches], told.refused) == ([1], ())
    world.run()
    assert world.task(task_id).state == "complete"
