"""Ready tasks: asked for, claimed, given up and looked for by command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from tasker_zmq.commands.claiming import query_ready_tasks
from tasker_zmq.commands.context import Observing
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.claims import (
    ClaimReadyTasks,
    DiscoverReadyTasks,
    QueryReadyTasks,
    ReadyTasks,
    ReleaseMutex,
)
from tasker_zmq.protocol.commands import ERROR
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

CHAIN = template("chain", {"first": Node(), "second": Node(after=("first",))})


def asked(world: World, kind: str, payload: object) -> dict[str, Any]:
    reply = world.ask(kind, payload)
    assert reply.payload.type != ERROR, bytes(reply.payload.data)
    return dict(msgspec.json.decode(reply.payload.data))


def refused(world: World, kind: str, payload: object) -> str:
    reply = world.ask(kind, payload)
    assert reply.payload.type == ERROR
    return str(msgspec.json.decode(reply.payload.data)["code"])


def ready(world: World, *, limit: int = 50) -> ReadyTasks:
    @contextmanager
    def connect() -> Iterator[Connection]:
        with world.engine.connect() as connection:
            yield connection

    clock = world.clock
    looking = Observing(connect=connect, now=clock.now(), monotonic=clock.monotonic, snapshot={})
    return query_ready_tasks(looking, QueryReadyTasks(limit=limit))


def owner(world: World, task_id: TaskId) -> str | None:
    found: str | None = world.task(task_id).processing_core_id
    return found


def test_ready_tasks_are_told_with_their_owners_the_most_urgent_first(world: World) -> None:
    world.publish(CHAIN)
    later, urgent = world.submit("chain"), world.submit("chain", priority=5)
    told = ready(world)
    assert [(each.task_id, each.ready_steps) for each in told.tasks] == [(urgent, 1), (later, 1)]
    assert {(each.core_id, each.core_alive) for each in told.tasks} == {("core-1", True)}
    assert [each.task_id for each in ready(world, limit=1).tasks] == [urgent]
    assert (ready(world, limit=1).more, told.more) == (True, False)
    world.worker()
    world.tick()
    assert ready(world).tasks == ()  # both are with a worker


def test_a_task_that_was_given_up_is_nobodys_and_says_why(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    told = asked(world, "ReleaseMutex", ReleaseMutex(task_ids=(task_id, TaskId(999)), why="test"))
    assert (told["released"], told["in_flight"], told["not_held"]) == ([task_id], [], [999])
    assert owner(world, task_id) is None
    (kept,) = world.rows("SELECT * FROM tasker_ready_task_coordination")
    assert (kept.task_id, kept.core_id, kept.reason) == (task_id, "core-1", "test")


def test_who_gave_a_task_up_sends_none_of_its_steps_until_the_time_is_over(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    asked(world, "ReleaseMutex", ReleaseMutex(task_ids=(task_id,), why="test", leave_seconds=20.0))
    worker = world.worker()
    world.wait(15)
    assert (owner(world, task_id), worker.work()) == (None, [])
    world.wait(15)
    assert owner(world, task_id) == "core-1"
    world.run()
    assert world.task(task_id).state == "complete"


def test_another_core_claims_at_once_what_was_given_up(world: World, make_world: MakeWorld) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.publish(CHAIN)
    task_id = world.submit("chain")
    other.worker()
    asked(world, "ReleaseMutex", ReleaseMutex(task_ids=(task_id,), why="its workers are there"))
    told = asked(other, "ClaimReadyTasks", ClaimReadyTasks())
    assert (told["task_ids"], told["ready_steps"]) == ([task_id], 1)
    assert owner(other, task_id) == "core-2"
    assert world.states(task_id)["first"] == "in_progress"  # sent in the very tick of the claim
    other.run()
    assert other.task(task_id).state == "complete"


def test_what_a_worker_has_in_hand_is_not_given_up(world: World) -> None:
    world.publish(CHAIN)
    world.worker()
    task_id = world.submit("chain")
    told = asked(world, "ReleaseMutex", ReleaseMutex(task_ids=(task_id,), why="test"))
    assert (told["released"], told["in_flight"]) == ([], [task_id])
    assert owner(world, task_id) == "core-1"
    world.run()


def test_a_task_of_another_core_is_not_given_up_and_not_claimed(
    world: World, make_world: MakeWorld
) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.publish(CHAIN)
    task_id = world.submit("chain")
    told = asked(other, "ReleaseMutex", ReleaseMutex(task_ids=(task_id,), why="mine now"))
    assert told["not_held"] == [task_id]
    assert asked(other, "ClaimReadyTasks", ClaimReadyTasks())["task_ids"] == []
    assert owner(world, task_id) == "core-1"


def test_a_claim_takes_no_more_than_it_was_told_to(world: World, make_world: MakeWorld) -> None:
    world.publish(CHAIN)
    task_ids = world.submit_many("chain", 5)
    asked(world, "ReleaseMutex", ReleaseMutex(task_ids=tuple(task_ids), why="test"))
    other = make_world(core_id="core-2", seed=2)
    with world.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tasker_tasks SET processing_core_id = NULL")
    assert len(asked(other, "ClaimReadyTasks", ClaimReadyTasks(limit=2))["task_ids"]) >= 2
    owners = world.rows("SELECT count(*) AS n FROM tasker_tasks WHERE processing_core_id IS NULL")
    assert owners[0].n <= 3


def test_a_sweep_that_was_asked_for_finds_what_memory_does_not_hold(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    world.state.viable.discard([step.workflow_step_id for step in world.steps(task_id).values()])
    world.worker()
    world.tick()
    assert world.states(task_id)["first"] == "pending"
    told = asked(world, "DiscoverReadyTasks", DiscoverReadyTasks())
    assert told == {"core_id": "core-1", "viable_steps": 0}
    world.tick()
    assert world.states(task_id)["first"] == "in_progress"
    world.run()


@pytest.mark.parametrize(
    "payload",
    [
        ReleaseMutex(task_ids=(), why="test"),
        ReleaseMutex(task_ids=(TaskId(1),), why=" "),
        ReleaseMutex(task_ids=(TaskId(1),), why="test", leave_seconds=-1.0),
        ReleaseMutex(task_ids=tuple(TaskId(each) for each in range(1_001)), why="test"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(world: World, payload: ReleaseMutex) -> None:
    assert refused(world, "ReleaseMutex", payload) == "invalid"


def test_partitions_are_made_by_one_of_several_cores(world: World, make_world: MakeWorld) -> None:
    other = make_world(core_id="core-2", seed=2)
    world.clock.advance(86_400 * 2)
    for each in (world, other):
        each.restart()
        each.state.partitions_made_at = None
        each.tick()
        assert each.state.partitions_made_at == each.clock.now()
    (lock,) = world.rows("SELECT * FROM tasker_distributed_processing_locks")
    assert (lock.lock_name, lock.owner_core_id) == ("partitions", "core-1")
