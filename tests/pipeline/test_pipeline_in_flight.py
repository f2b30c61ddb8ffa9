"""Results are applied from memory where it has the batch, and no row is overruled by that."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.store import connection as connections
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.reads.invariants import check_invariants
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template

CHAIN = {"a": Node(), "b": Node(after=("a",)), "c": Node(after=("b",))}
WIDE = {name: Node() for name in "abcd"}
LOOKS = ("load_named_steps", "load_viable_steps", "load_accounts", "settle_batches")


@pytest.fixture
def world(engine: Engine, manual_clock: ManualClock) -> Iterator[World]:
    """On one connection: what that has prepared, and how often it ran, is this world's doing."""
    url = engine.url.render_as_string(hide_password=False)
    alone = connections.create(url, purpose="tests", limits=ConnectionLimits())
    yield World(alone, manual_clock)
    with alone.connect() as connection:
        assert check_invariants(connection) == []
    alone.dispose()


def looks(world: World) -> int:
    """How often rows were read to learn what memory might have known; of this connection."""
    found = world.rows(
        "SELECT coalesce(sum(generic_plans + custom_plans), 0)::integer AS n "
        "FROM pg_prepared_statements WHERE name = ANY(:names)",
        names=list(LOOKS),
    )
    return int(found[0].n)


def change(world: World, statement: str) -> None:
    """What somebody else does whom this core does not hear."""
    with world.engine.begin() as connection:
        connection.execute(text(statement))


def begun(world: World) -> tuple[SimulatedWorker, TaskId]:
    world.publish(template("chain", CHAIN))
    worker = world.worker()
    return worker, world.submit("chain")


def test_nothing_is_read_back_while_all_goes_as_foreseen(world: World) -> None:
    _, task = begun(world)
    before = looks(world)
    world.run()
    assert looks(world) == before
    assert world.task(task).state == "complete"
    assert len(world.state.in_flight) == 0
    assert world.discrepancies() == []


def test_a_batch_that_is_reported_on_bit_by_bit_stays_in_memory(world: World) -> None:
    world.publish(template("wide", WIDE))
    worker = world.worker(concurrency=4)
    task = world.submit("wide")
    before = looks(world)
    for frame in worker.work():
        world.tick(frame)
        world.wait(0.3)  # it is marked as published, meanwhile
    assert looks(world) == before
    assert world.task(task).state == "complete"
    assert set(world.verdicts()) == {"applied"}
    assert [each.state for each in world.batches()] == ["completed"]
    assert world.discrepancies() == []


def test_a_result_that_comes_twice_is_a_duplicate_in_memory_too(world: World) -> None:
    world.publish(template("wide", WIDE))
    worker = world.worker(concurrency=4)
    world.submit("wide")
    first, *rest = worker.work()
    before = looks(world)
    world.tick(first)
    world.tick(first, first)
    assert looks(world) == before
    world.tick(*rest)
    assert world.verdicts() == ["applied", "duplicate", "duplicate", *["applied"] * 4]
    assert world.discrepancies() == []


@pytest.fixture
def disturbed(engine: Engine, manual_clock: ManualClock) -> World:
    """A world whose rows somebody else changes in ways that break invariants."""
    return World(engine, manual_clock)


@pytest.mark.parametrize(
    ("meanwhile", "verdict"),
    [
        ("UPDATE tasker_workflow_steps SET state = 'cancelled' WHERE name = 'a'", "late"),
        ("UPDATE tasker_workflow_steps SET current_batch_id = 0 WHERE name = 'a'", "stale"),
        ("UPDATE tasker_step_execution_batches SET session_id = 'other'", "rejected"),
    ],
)
def test_a_row_that_somebody_else_has_changed_is_believed(
    disturbed: World, meanwhile: str, verdict: str
) -> None:
    worker, _ = begun(disturbed)
    change(disturbed, meanwhile)
    disturbed.tick(worker.work()[0])
    assert disturbed.verdicts() == [verdict]


def test_counts_that_somebody_else_has_raised_are_not_lost(disturbed: World) -> None:
    disturbed.publish(template("wide", WIDE))
    worker = disturbed.worker(concurrency=4)
    disturbed.submit("wide")
    change(disturbed, "UPDATE tasker_step_execution_batches SET partial_results_received = 1")
    disturbed.tick(worker.work()[0])
    assert [each.partial_results_received for each in disturbed.batches()] == [2]


def test_a_child_that_somebody_else_has_freed_is_sent(disturbed: World) -> None:
    disturbed.publish(template("join", {"a": Node(), "b": Node(), "c": Node(after=("a", "b"))}))
    worker = disturbed.worker()
    task = disturbed.submit("join")
    change(disturbed, "UPDATE tasker_workflow_steps SET unfinished_parents = 1 WHERE name = 'c'")
    disturbed.tick(worker.work()[0])
    assert disturbed.states(task)["c"] == "in_progress"


def test_a_child_that_is_not_free_after_all_waits(disturbed: World) -> None:
    worker, task = begun(disturbed)
    change(disturbed, "UPDATE tasker_workflow_steps SET unfinished_parents = 2 WHERE name = 'b'")
    disturbed.tick(*worker.work())
    assert disturbed.states(task) == {"a": "complete", "b": "pending", "c": "pending"}


def test_a_task_in_which_something_else_failed_ends_when_nothing_can_go_on(
    disturbed: World,
) -> None:
    disturbed.publish(template("join", {"a": Node(), "b": Node(), "c": Node(after=("a", "b"))}))
    worker = disturbed.worker()
    task = disturbed.submit("join")
    change(disturbed, "UPDATE tasker_workflow_steps SET state = 'error' WHERE name = 'b'")
    change(disturbed, "UPDATE tasker_tasks SET failed_steps = 1")
    disturbed.tick(worker.work()[0])
    assert disturbed.states(task) == {"a": "complete", "b": "error", "c": "pending"}
    assert disturbed.task(task).state == "error"
