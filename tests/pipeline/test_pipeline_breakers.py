"""A worker that only fails with a handler gets no more of it for a while, and then one step."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from tasker_zmq.domain.breaker import BreakerLimits
from tasker_zmq.domain.explanation import explain
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import WorkersManaged
from tasker_zmq.pipeline.state import LEGACY_SESSION
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.protocol.commands import InHand, WorkerGoodbye
from tasker_zmq.protocol.messages import StepRequest
from tasker_zmq.protocol.workers import ManageAction, ManageWorker
from tasker_zmq.store.reads import tasks as task_reads
from tasker_zmq.store.reads.standing import standing
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, done, template
from tests.pipeline.conftest import MakeWorld

FAILURES = 3
TUNING = Tuning(
    breaker=BreakerLimits(failures=FAILURES, cool_off_seconds=10, cool_off_seconds_max=40),
    sweep_seconds=1_000.0,
)
OFTEN = {"max_attempts": 50, "backoff_base_ms": 0}


@pytest.fixture
def broken(make_world: MakeWorld) -> World:
    """A workflow whose step is tried again at once, and again."""
    world = make_world(tuning=TUNING)
    world.publish(
        template("single", {"a": Node(retry=OFTEN)}),
        template("other", {"a": Node(handler="tests.other", retry=OFTEN)}),
    )
    return world


def fails(_: StepRequest) -> Word:
    return failing("no route", retryable=True)


def refuses(_: StepRequest) -> Word:
    return failing("no such order", retryable=False)


def turns(world: World, count: int) -> None:
    """Let what is in hand be done, and what follows be sent, so often and no time pass."""
    for _ in range(count):
        world.tick(*world.work())


def rows(world: World) -> list[tuple[object, ...]]:
    found = world.rows(
        "SELECT worker_name, handler_class, state, failures, last_error, core_id "
        "FROM tasker_worker_breakers JOIN tasker_workers USING (worker_id) ORDER BY 1, 2"
    )
    return [tuple(row) for row in found]


def open_breaker(world: World, name: str = "anna") -> tuple[SimulatedWorker, TaskId]:
    """A worker that has failed too often, and the task that it failed with."""
    worker = world.worker(name, handler=fails)
    task = world.submit("single")
    turns(world, 30)
    assert len(worker.requests) == FAILURES
    return worker, task


def test_who_only_fails_gets_no_more_while_another_goes_on(broken: World) -> None:
    anna, task = open_breaker(broken)
    berta = broken.worker("berta")
    broken.run()
    assert broken.task(task).state == "complete"
    more = broken.submit_many("single", 20)
    turns(broken, 5)
    assert len(anna.requests) == FAILURES
    assert {int(each.task_id) for each in berta.requests} == {task, *more}


def test_its_other_handlers_go_on(broken: World) -> None:
    anna = broken.worker("anna", handlers=("tests.work", "tests.other"), handler=fails)
    broken.submit("single")
    turns(broken, 30)
    anna.handler = done
    other = broken.submit("other")
    turns(broken, 3)
    assert broken.task(other).state == "complete"
    assert len(anna.requests) == FAILURES + 1


def test_what_no_retry_helps_is_no_fault_of_the_worker(broken: World) -> None:
    anna = broken.worker("anna", handler=refuses)
    for _ in range(FAILURES * 3):
        broken.submit("single")
        broken.tick(*broken.work())
    broken.run()
    assert len(anna.requests) == FAILURES * 3
    assert not broken.state.breakers


def test_an_answer_between_failures_begins_the_count_anew(broken: World) -> None:
    anna = broken.worker("anna", handler=fails)
    broken.submit("single")
    for _ in range(4):
        turns(broken, FAILURES - 1)
        anna.handler = done
        turns(broken, 2)
        anna.handler = fails
        broken.submit("single")
    turns(broken, 1)
    assert rows(broken) == []


def test_after_its_cool_off_it_is_tried_with_one_step_and_closes_when_that_succeeds(
    broken: World,
) -> None:
    anna, _ = open_breaker(broken)
    broken.submit_many("single", 20)
    anna.handler = done
    broken.wait(9.9)
    assert len(anna.requests) == FAILURES
    broken.wait(5)
    assert len(anna.requests) == FAILURES + 1
    turns(broken, 1)
    assert rows(broken) == [("anna", "tests.work", "closed", FAILURES, "no route", "core-1")]
    assert not broken.state.breakers
    broken.run()
    assert len(anna.requests) == FAILURES + 21


def test_each_failed_try_doubles_the_wait_up_to_the_longest(broken: World) -> None:
    anna, _ = open_breaker(broken)
    for seconds in (10, 20, 40, 40):
        before = len(anna.requests)
        broken.wait(seconds - 0.5)
        assert len(anna.requests) == before
        broken.wait(0.5)
        assert len(anna.requests) == before + 1
        turns(broken, 3)
        assert len(anna.requests) == before + 1
    anna.handler = done
    broken.run()


def test_while_it_waits_its_steps_use_up_no_attempts_and_the_core_rests(broken: World) -> None:
    anna, task = open_breaker(broken)
    before = broken.steps(task)["a"].attempts
    ticks = 0
    until = broken.clock.now().timestamp() + 9
    while ticks < 20 and broken._advance(until):
        broken.tick(*broken.beats())
        ticks += 1
    assert broken.clock.now().timestamp() == until
    assert broken.steps(task)["a"].attempts == before
    anna.handler = done
    broken.run()


def test_the_core_wakes_up_for_the_next_try(make_world: MakeWorld) -> None:
    world = make_world(tuning=replace(TUNING, core_lease_seconds=1_000.0))
    world.publish(template("single", {"a": Node(retry=OFTEN)}))
    anna, _ = open_breaker(world)
    due = world.clock.now() + timedelta(seconds=10)
    world.wait(9)
    world.clock.advance(0.5)
    world.tick(*world.beats())
    assert next_due(world.state, world.tuning, world.clock.now()) == due
    anna.handler = done
    world.run()


def test_the_step_by_which_a_worker_is_tried_goes_alone(broken: World) -> None:
    anna = broken.worker("anna", handlers=("tests.work", "tests.other"), handler=fails)
    broken.submit("single")
    turns(broken, 30)
    anna.handler = done
    broken.wait(9.9)
    before = len(broken.batches())
    broken.clock.advance(0.1)
    asked = [broken.command("InitializeTask", broken.request(name)) for name in ("single", "other")]
    broken.tick(*asked)
    sizes = [(row.handler_class, row.batch_size) for row in broken.batches()[before:]]
    assert sorted(sizes) == [("tests.other", 1), ("tests.work", 1)]
    broken.run()


def test_beside_others_with_room_it_is_tried_with_one_step_too(broken: World) -> None:
    anna, _ = open_breaker(broken)
    berta = broken.worker("berta", concurrency=10)
    broken.run()
    broken.wait(10)
    berta.requests.clear()
    broken.submit_many("single", 12)
    assert (len(anna.requests), len(berta.requests)) == (FAILURES + 1, 11)
    broken.run()


@pytest.mark.parametrize("action", [ManageAction.DISABLE, ManageAction.DRAIN])
def test_what_a_worker_loses_that_people_sent_home_is_not_its_failure(
    broken: World, action: ManageAction
) -> None:
    anna = broken.worker("anna")
    broken.submit_many("single", 5)
    anna.silent = True
    request = ManageWorker(worker_name="anna", action=action, by="olga")
    broken.ask("ManageWorker", request)
    broken.wait(11)
    assert not broken.state.breakers
    broken.worker("berta")
    broken.run()


def test_while_all_goes_well_the_breakers_cost_no_statement(broken: World) -> None:
    broken.worker("anna")
    broken.submit("single")
    said: list[str] = []

    def hear(_c: object, _u: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(broken.engine, "before_cursor_execute", hear)
    try:
        broken.submit_many("single", 20)
        broken.run()
    finally:
        event.remove(broken.engine, "before_cursor_execute", hear)
    assert said
    assert not [each for each in said if "tasker_worker_breakers" in each]


def test_workers_without_a_name_have_no_breaker(broken: World) -> None:
    legacy = broken.legacy_worker(handler=fails)
    broken.submit("single")
    turns(broken, FAILURES * 3)
    assert not broken.state.breakers
    legacy.handler = done
    broken.run()


def test_a_try_that_is_taken_away_leaves_room_for_another(broken: World) -> None:
    anna, task = open_breaker(broken)
    second = broken.submit("single")
    broken.wait(10)
    (probed,) = {int(each.task_id) for each in anna.requests[FAILURES:]}
    assert probed in {task, second}
    batch = broken.workers.pop().batch()
    unfinished = (InHand(batch_id=batch.batch_id, step_ids=(batch.steps[0].step_id,)),)
    said = WorkerGoodbye(session_id=anna.session_id or LEGACY_SESSION, unfinished=unfinished)
    broken.tick(broken.command("WorkerGoodbye", said, route=anna.route))
    again = broken.worker("anna")
    broken.wait(1)
    assert len(again.requests) == 1
    broken.run()


def test_losses_count_once_for_all_steps_that_are_lost_together(broken: World) -> None:
    for number in range(FAILURES):
        assert not broken.state.breakers.shut("tests.work")  # type: ignore[arg-type]
        anna = broken.worker("anna")
        if number == 0:
            broken.submit_many("single", 30)
        anna.silent = True
        broken.tick(*broken.beats())
        broken.wait(11)
        broken.workers.clear()
    assert [row[2] for row in rows(broken)] == ["open"]
    broken.worker("berta")
    broken.run()


def test_a_later_process_obeys(broken: World) -> None:
    open_breaker(broken)
    broken.workers.clear()
    broken.start(predecessor_gone=True)
    anna = broken.worker("anna")
    broken.submit("single")
    turns(broken, 3)
    assert anna.requests == []
    broken.wait(10)
    assert len(anna.requests) == 1
    broken.run()


def test_another_core_obeys_once_it_is_told(broken: World, make_world: MakeWorld) -> None:
    other = make_world(core_id="core-2", seed=2, tuning=TUNING)
    there = other.worker("anna")
    here, task = open_breaker(broken)
    other.tick(WorkersManaged())
    other.submit("single")
    turns(other, 3)
    assert there.requests == []
    here.handler = done
    request = ManageWorker(worker_name="anna", action=ManageAction.ENABLE, by="olga")
    other.ask("ManageWorker", request)
    turns(other, 1)
    assert len(there.requests) == 1
    turns(broken, 3)
    assert broken.task(task).state == "in_progress"
    broken.tick(WorkersManaged())
    turns(broken, 2)
    assert broken.task(task).state == "complete"


def test_a_breaker_of_which_nobody_heard_for_a_day_is_forgotten(broken: World) -> None:
    open_breaker(broken)
    broken.workers.clear()
    broken.clock.advance(86_400 + 20)
    broken.start()
    anna = broken.worker("anna")
    broken.submit_many("single", 5)
    assert len({each.task_id for each in anna.requests}) == 6
    broken.run()


def test_who_enables_a_worker_closes_its_breakers(broken: World) -> None:
    anna, task = open_breaker(broken)
    anna.handler = done
    request = ManageWorker(worker_name="anna", action=ManageAction.ENABLE, by="olga")
    broken.ask("ManageWorker", request)
    turns(broken, 2)
    assert broken.task(task).state == "complete"
    assert [row[2] for row in rows(broken)] == ["closed"]


def test_a_task_says_that_all_who_know_its_step_are_behind_breakers(broken: World) -> None:
    _, task = open_breaker(broken)
    now = broken.clock.now()
    with broken.engine.connect() as connection:
        shown = task_reads.show(connection, task)
        assert shown is not None
        text = explain(standing(connection, shown, now=now), now=now)
    due = now + timedelta(seconds=10)
    assert f"its breaker is open, next try {due:%H:%M:%S} UTC" in text


def test_with_zero_failures_in_the_settings_nobody_is_kept_from_work(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(breaker=BreakerLimits(failures=0)))
    world.publish(template("single", {"a": Node(retry=OFTEN)}))
    anna = world.worker("anna", handler=fails)
    world.submit("single")
    turns(world, 40)
    assert len(anna.requests) > 15
    anna.handler = done
    world.run()
