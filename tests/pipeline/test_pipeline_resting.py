"""A core with nothing to do asks next to nothing, and misses nothing: words end its rest."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, Any

import pytest
from sqlalchemy import Engine, event, text

from tasker_zmq.domain.ids import SessionId
from tasker_zmq.pipeline.beats import UNCHANGED_EVERY
from tasker_zmq.pipeline.inbox import CoreEnded, ReceivedCommand
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.protocol.claims import ReleaseMutex
from tasker_zmq.protocol.commands import WorkerHeartbeat
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

STATEMENTS_A_MINUTE, TRANSACTIONS_A_MINUTE = 52, 20
BESIDE_A_MINUTE = 80  # of each of two: they look after each other
STEP_SECONDS = 1.0
LONG = 120.0  # seconds after which a core rests as long as it ever does
MINUTES = 4
BEGINNING = re.compile(r'Query\t "(BEGIN|COMMIT|ROLLBACK)|Bind\t "" "tasker_begin"')
CHAIN = template("chain", {"a": Node(), "b": Node(after=("a",))})


@contextmanager
def traced(engine: Engine) -> Iterator[IO[str]]:
    """What libpq sends to the server meanwhile and gets from it, a line for each message."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as lines:

        def begin(connection: Any, *_: object) -> None:
            connection.pgconn.trace(lines.fileno())

        def end(connection: Any, *_: object) -> None:
            connection.pgconn.untrace()

        event.listen(engine, "checkout", begin)
        event.listen(engine, "checkin", end)
        try:
            yield lines
        finally:
            event.remove(engine, "checkout", begin)
            event.remove(engine, "checkin", end)


def sent(lines: IO[str]) -> list[str]:
    """The messages that ask for something: a simple query, or the naming of one to execute."""
    lines.seek(0)
    messages = [line for line in lines if "\tF\t" in line]
    return [line for line in messages if "\tQuery\t" in line or "\tBind\t" in line]


def counted(messages: list[str]) -> tuple[int, int]:
    """Statements, and transactions."""
    asked = [each for each in messages if not BEGINNING.search(each)]
    return len(asked), len([each for each in messages if '"COMMIT"' in each])


def rest(world: World) -> None:
    """Do some work, and have nothing to do for a while."""
    world.publish(CHAIN)
    for name in ("anna", "bert"):
        world.worker(name)
    world.submit("chain")
    world.run()
    world.wait(LONG)


def submit_quietly(engine: Engine) -> int:
    """As tasker_submit_task does it, but nobody is told."""
    with engine.begin() as connection:
        made = connection.execute(text("SELECT tasker_submit_task('tests/chain', '{}')"))
        return int(made.scalar_one())


def beat(world: World, worker: SimulatedWorker, load: int = 0) -> ReceivedCommand:
    return world.command(
        "WorkerHeartbeat",
        WorkerHeartbeat(session_id=SessionId(str(worker.session_id)), current_load=load),
        route=worker.route,
    )


def row(world: World, worker: SimulatedWorker) -> Any:
    return world.rows(
        "SELECT * FROM tasker_worker_registrations WHERE session_id = :id", id=worker.session_id
    )[0]


def test_a_core_with_two_workers_and_nothing_to_do_asks_next_to_nothing(world: World) -> None:
    rest(world)
    with traced(world.engine) as lines:
        world.wait(MINUTES * 60)
        messages = sent(lines)
    asked, commits = counted(messages)
    assert 0 < asked <= STATEMENTS_A_MINUTE * MINUTES, "\n".join(messages[:60])
    assert 0 < commits <= TRANSACTIONS_A_MINUTE * MINUTES


def test_cores_that_rest_beside_each_other_ask_little_more(make_world: MakeWorld) -> None:
    world, other = make_world(), make_world(core_id="core-2", seed=2)
    rest(world)
    for _ in range(3):
        other.tick()
        world.tick()
    with traced(world.engine) as lines:
        for _ in range(int(MINUTES * 60 / STEP_SECONDS)):
            world.clock.advance(STEP_SECONDS)
            world.tick(*world.beats())
            other.tick()
        messages = sent(lines)
    asked, commits = counted(messages)
    assert 0 < asked <= 2 * BESIDE_A_MINUTE * MINUTES, "\n".join(messages[:60])
    assert 0 < commits <= 2 * TRANSACTIONS_A_MINUTE * MINUTES


def test_a_heartbeat_that_says_nothing_new_opens_no_transaction(world: World) -> None:
    rest(world)
    world.tick()
    with traced(world.engine) as lines:
        assert world.tick(*world.beats()).letters
        assert sent(lines) == []


def test_what_nobody_told_of_is_found_within_half_a_minute(world: World) -> None:
    rest(world)
    swept_for = world.state.next_sweep_at
    while world.state.next_sweep_at == swept_for:
        world.wait(0.5)
    task_id = submit_quietly(world.engine)
    world.wait(29)
    world.run()
    assert world.task(task_id).state == "complete"  # type: ignore[arg-type]


def test_work_ends_a_rest(world: World) -> None:
    rest(world)
    world.submit("chain")
    world.tick()
    soon = world.clock.now() + timedelta(seconds=world.tuning.sweep_seconds)
    assert world.state.next_sweep_at is not None
    assert world.state.next_sweep_at <= soon
    world.run()


def test_a_word_of_another_core_makes_a_resting_one_look_at_once(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    rest(world)
    submitted = world.submit("chain")
    world.tick()
    with world.engine.begin() as connection:
        connection.execute(
            text("UPDATE tasker_tasks SET processing_core_id = NULL WHERE task_id = :id"),
            {"id": submitted},
        )
    world.tick(CoreEnded())
    assert world.task(submitted).processing_core_id == "core-1"
    world.run()


def test_who_dies_while_another_core_rests_is_succeeded_when_his_lease_is_over(
    make_world: MakeWorld,
) -> None:
    world, other = make_world(), make_world(core_id="core-2", seed=2)
    rest(other)
    for _ in range(20):
        world.wait(3)
        other.wait(3)
    task_id = other.submit("chain")
    died_at = world.clock.now()
    world.worker("carl")
    while world.task(task_id).processing_core_id != "core-1":
        world.wait(0.5)
        assert world.clock.now() - died_at < timedelta(seconds=15)
    world.run()


def test_what_was_given_up_is_taken_back_soon_after_it_was_left_to_others(world: World) -> None:
    rest(world)
    world.workers.clear()
    world.wait(LONG)
    task_id = world.submit("chain")
    world.ask("ReleaseMutex", ReleaseMutex(task_ids=(task_id,), why="test", leave_seconds=60.0))
    world.worker("carl")
    world.wait(60.0)
    assert world.task(task_id).processing_core_id is None
    world.wait(world.tuning.sweep_seconds + 1)
    assert world.task(task_id).processing_core_id == "core-1"
    world.run()


def test_a_load_that_changes_is_written_soon_and_one_that_stays_now_and_then(world: World) -> None:
    rest(world)
    worker = world.workers[0]
    world.tick(beat(world, worker, load=3))
    world.clock.advance(world.tuning.heartbeat_interval_seconds)
    world.tick()
    assert row(world, worker).current_load == 3
    written_at = row(world, worker).last_heartbeat_at
    ages = []
    for _ in range(30):
        world.clock.advance(world.tuning.heartbeat_interval_seconds)
        world.tick(*[beat(world, each, load=3) for each in world.workers])
        world.tick()
        ages.append(world.clock.now() - row(world, worker).last_heartbeat_at)
    assert row(world, worker).last_heartbeat_at > written_at
    assert max(ages) <= UNCHANGED_EVERY + timedelta(seconds=world.tuning.heartbeat_interval_seconds)
    assert max(ages) > timedelta(seconds=world.tuning.heartbeat_interval_seconds)


def test_a_suspect_that_is_heard_again_is_shown_healthy_at_once(world: World) -> None:
    rest(world)
    worker = world.workers[0]
    world.clock.advance(world.tuning.session_suspect_seconds + 1)
    world.tick()
    assert row(world, worker).status == "unhealthy"
    world.tick(*world.beats())
    world.tick()
    assert row(world, worker).status == "healthy"


@pytest.mark.parametrize("what", ["submission", "scheduled"])
def test_a_draining_core_waits_for_no_time_that_has_come(world: World, what: str) -> None:
    rest(world)
    if what == "scheduled":
        world.submit("chain", scheduled_for=(world.clock.now() + timedelta(seconds=5)).isoformat())
    else:
        with world.engine.begin() as connection:
            due = {"at": world.clock.now() + timedelta(seconds=5)}
            ask = "SELECT tasker_submit_task('tests/chain', '{}', scheduled_for => :at)"
            connection.execute(text(ask), due)
        world.state.next_sweep_at = None
        world.tick()
    world.state.drain()
    world.clock.advance(6)
    world.tick(*world.beats())
    world.tick()
    assert next_due(world.state, world.tuning, world.clock.now()) > world.clock.now()
    world.state.draining = False
    world.run()
