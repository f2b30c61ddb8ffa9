"""A worker whose steps end at once may hold more than its credit: what it ends in a moment."""

from datetime import timedelta

import pytest

from tasker_zmq.domain.credit import LONG, MOMENT
from tasker_zmq.errors import TaskerError
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol.commands import WorkerHeartbeat
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

WIDE = {f"s{number:03}": Node() for number in range(400)}
BURST = 20


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    made = make_world(tuning=Tuning(credit_factor=2.0))
    made.publish(template("wide", WIDE))
    return made


def held(worker: SimulatedWorker) -> int:
    return sum(len(batch.steps) for batch in worker.in_hand)


def answer(world: World, *, after: timedelta = MOMENT / 10) -> None:
    """All that was sent ends, and what follows is sent."""
    world.clock.advance(after.total_seconds())
    world.tick(*world.work())


def test_who_ends_steps_at_once_is_sent_as_many_as_it_ends_in_a_moment(world: World) -> None:
    worker = world.worker(concurrency=2, burst=BURST)
    world.submit("wide")
    seen = [held(worker)]
    while seen[-1] < BURST:
        answer(world)
        seen.append(held(worker))
        assert len(seen) < 10, "it gets no more"
    assert seen[0] == 4, "nothing is known of it yet: its credit"
    assert seen == sorted(seen)
    answer(world)
    assert held(worker) == BURST, "and never more than it can take"
    world.run()


def test_who_takes_no_bursts_is_never_sent_more_than_its_credit(world: World) -> None:
    worker = world.worker(concurrency=2)
    world.submit("wide")
    for _ in range(10):
        answer(world)
        assert held(worker) == 4
    world.run()


def test_who_ends_steps_slowly_is_sent_no_more_than_its_credit(world: World) -> None:
    worker = world.worker(concurrency=2, burst=BURST)
    world.submit("wide")
    for _ in range(10):
        answer(world, after=3 * MOMENT)
        assert held(worker) == 4
    world.run()


def test_one_long_step_in_hand_ends_a_burst(world: World) -> None:
    worker = world.worker(concurrency=2, burst=BURST)
    world.submit_many("wide", 4)
    for _ in range(6):
        answer(world)
    assert held(worker) > 4
    long, until = worker.in_hand[0], world.clock.now() + LONG
    while world.clock.now() <= until:
        world.clock.advance(MOMENT.total_seconds() / 10)
        worker.in_hand.remove(long)
        frames = world.work()
        worker.in_hand.insert(0, long)
        world.tick(*frames)
    assert held(worker) <= max(4, len(long.steps))
    world.run()


def test_a_core_s_part_of_a_burst_shrinks_with_its_part_of_the_credit(world: World) -> None:
    worker = world.worker(concurrency=2, burst=BURST)
    world.submit("wide")
    assert worker.session_id is not None
    granting = WorkerHeartbeat(session_id=worker.session_id, in_hand=worker.claims(), credit=2)
    world.tick(world.command("WorkerHeartbeat", granting, route=worker.route))
    for _ in range(10):
        answer(world)
        assert held(worker) <= BURST // 2
    assert held(worker) > 2
    world.run()


@pytest.mark.parametrize("burst", [-1, 100_001])
def test_a_burst_that_nobody_can_mean_is_refused(world: World, burst: int) -> None:
    with pytest.raises((AssertionError, TaskerError), match="max_burst_steps"):
        world.worker(burst=burst)
