"""Two connections at once: each outcome happens once, and nobody waits for what can be left."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from tasker_zmq.domain.ids import CoreId, NamedTaskId, StepId, TaskId
from tasker_zmq.domain.states import StepEvent, StepState
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.batches import load_viable, reserve_ids
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.steps import Move, NewTask
from tasker_zmq.testing import ManualClock
from tests.store.meanwhile import meanwhile
from tests.store.seeding import CORE, Story, diamond

OTHER = CoreId("core-2")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Connections that wait for locks as long as a test may take."""
    limits = ConnectionLimits(lock_timeout_seconds=60, statement_timeout_seconds=60)
    made = connections.create(database_url, purpose="tests", limits=limits, pool_size=5)
    yield made
    made.dispose()


@pytest.fixture
def now(manual_clock: ManualClock) -> datetime:
    return manual_clock.now()


@pytest.fixture
def named(engine: Engine, manual_clock: ManualClock) -> NamedTaskId:
    """A diamond's definition, committed."""
    with engine.begin() as connection:
        schema.ensure_partitions(connection, manual_clock.now())
        return Story(connection, manual_clock).publish(diamond())


def steps(connection: Connection, task_id: TaskId) -> dict[str, Any]:
    found = connection.execute(
        text("SELECT * FROM tasker_workflow_steps WHERE task_id = :t"), {"t": task_id}
    )
    return {row.name: row for row in found}


def sent(engine: Engine, clock: ManualClock, named: NamedTaskId, *complete: str) -> TaskId:
    """A task, some of whose steps are complete; those behind them are with a worker."""
    with engine.begin() as connection:
        story = Story(connection, clock)
        task = story.task(named)
        worker = story.worker("anna", ("orders.validate",))
        for name in complete:
            story.run([story.step(task, name)], worker)
        ready = [
            StepId(row.workflow_step_id)
            for row in steps(connection, task).values()
            if row.state == "pending" and row.unfinished_parents == 0
        ]
        story.send(ready, worker)
        return task


def completion(step: Any) -> Move:
    return Move(
        step_id=StepId(step.workflow_step_id),
        from_state=StepState.IN_PROGRESS,
        to_state=StepState.COMPLETE,
        event=StepEvent.COMPLETE,
        results="{}",
    )


def test_the_same_outcome_at_once_is_applied_by_one_and_refused_to_the_other(
    engine: Engine, manual_clock: ManualClock, named: NamedTaskId, now: datetime
) -> None:
    task = sent(engine, manual_clock, named)
    with engine.connect() as connection:
        move = completion(steps(connection, task)["validate"])
        connection.rollback()
        first = step_store.apply(connection, [move], now=now)
        other = meanwhile(engine, lambda theirs: step_store.apply(theirs, [move], now=now))
        assert not other.done()
        connection.commit()
        with pytest.raises(StaleWriteError):
            other.result()
        assert len(first.ready) == 2
        done = steps(connection, task)
        assert done["validate"].transitions == 3
        assert done["reserve"].unfinished_parents == 0


def test_when_the_first_is_rolled_back_the_other_applies(
    engine: Engine, manual_clock: ManualClock, named: NamedTaskId, now: datetime
) -> None:
    task = sent(engine, manual_clock, named)
    with engine.connect() as connection:
        move = completion(steps(connection, task)["validate"])
        connection.rollback()
        step_store.apply(connection, [move], now=now)
        other = meanwhile(engine, lambda theirs: step_store.apply(theirs, [move], now=now))
        connection.rollback()
        assert len(other.result().ready) == 2
        assert steps(connection, task)["validate"].transitions == 3


def test_two_parents_that_complete_at_once_make_their_child_ready_once(
    engine: Engine, manual_clock: ManualClock, named: NamedTaskId, now: datetime
) -> None:
    task = sent(engine, manual_clock, named, "validate")
    with engine.connect() as connection:
        found = steps(connection, task)
        left, right = completion(found["reserve"]), completion(found["charge"])
        connection.rollback()
        first = step_store.apply(connection, [left], now=now)
        other = meanwhile(engine, lambda theirs: step_store.apply(theirs, [right], now=now))
        assert not other.done()
        connection.commit()
        ready = [each.step_id for moved in (first, other.result()) for each in moved.ready]
        assert ready == [found["ship"].workflow_step_id]
        assert steps(connection, task)["ship"].unfinished_parents == 0


def create(
    connection: Connection, tasks: Sequence[NewTask], *, core_id: CoreId, now: datetime
) -> dict[TaskId, Sequence[int]]:
    count = sum(task.step_count for task in tasks)
    step_ids = reserve_ids(connection, "tasker_workflow_steps", "workflow_step_id", count=count)
    return step_store.create(connection, tasks, step_ids, core_id=core_id, now=now)


def new_task(named: NamedTaskId, task_id: int, identity: str) -> NewTask:
    return NewTask(
        task_id=TaskId(task_id),
        named_task_id=named,
        step_count=len(diamond().steps),
        context="{}",
        identity=identity,
        priority=0,
        tags="[]",
        initiator=None,
        source_system=None,
        reason=None,
        correlation_id=None,
    )


@pytest.mark.parametrize("kept", [True, False])
def test_the_same_identity_created_by_two_cores_at_once_is_one_task(
    engine: Engine, named: NamedTaskId, now: datetime, *, kept: bool
) -> None:
    mine, theirs = new_task(named, 101, "order-7"), new_task(named, 102, "order-7")
    with engine.connect() as connection:
        first = create(connection, [mine], core_id=CORE, now=now)
        other = meanwhile(
            engine,
            lambda their: create(their, [theirs], core_id=OTHER, now=now),
        )
        assert not other.done()
        (connection.commit if kept else connection.rollback)()
        assert set(first) == {101}
        assert set(other.result()) == (set() if kept else {102})
        found = step_store.find_by_identity(connection, [(named, "order-7")])
        assert found == {(named, "order-7"): 101 if kept else 102}
        number = connection.execute(text("SELECT count(*) FROM tasker_workflow_steps"))
        assert number.scalar_one() == 4


def test_viable_steps_that_another_holds_are_left_for_later(
    engine: Engine, named: NamedTaskId, now: datetime
) -> None:
    with engine.begin() as connection:
        tasks = [new_task(named, number, f"t{number}") for number in range(1, 6)]
        created = create(connection, tasks, core_id=CORE, now=now)
        ids = [StepId(step_ids[0]) for step_ids in created.values()]
    with engine.connect() as connection, engine.connect() as another:
        mine = load_viable(connection, ids[:3], core_id=CORE, now=now)
        theirs = load_viable(another, ids, core_id=CORE, now=now)
        assert sorted(row.step_id for row in mine) == ids[:3]
        assert sorted(row.step_id for row in theirs) == ids[3:]


def test_two_cores_that_claim_at_once_get_different_tasks(
    engine: Engine, named: NamedTaskId, now: datetime
) -> None:
    after = now + timedelta(hours=2)  # the lease of the core that made them is over
    with engine.begin() as connection:
        tasks = [new_task(named, number, f"t{number}") for number in range(1, 11)]
        create(connection, tasks, core_id=CORE, now=now)
        for core in (OTHER, CoreId("core-3")):
            worker_store.start_core(connection, core, {}, now=after, lease_seconds=60)
    with engine.connect() as connection, engine.connect() as another:
        assert len(step_store.claim(connection, core_id=OTHER, now=after, at_most=6)) == 6
        assert len(step_store.claim(another, core_id=CoreId("core-3"), now=after, at_most=6)) == 4
        connection.commit()
        another.commit()
        owners = text("SELECT processing_core_id, count(*) FROM tasker_tasks GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in connection.execute(owners)] == [("core-2", 6), ("core-3", 4)]
        assert step_store.claim(another, core_id=OTHER, now=after, at_most=6) == []


def test_tasks_of_a_living_core_and_of_the_claiming_one_are_not_claimed(
    engine: Engine, named: NamedTaskId, now: datetime
) -> None:
    with engine.begin() as connection:
        worker_store.start_core(connection, OTHER, {}, now=now, lease_seconds=60)
        for number, core in enumerate((CORE, OTHER, CoreId("nobody")), start=1):
            task = new_task(named, number, f"t{number}")
            create(connection, [task], core_id=core, now=now)
        connection.execute(
            text("UPDATE tasker_tasks SET processing_core_id = NULL WHERE task_id = 3")
        )
        create(connection, [new_task(named, 4, "t4")], core_id=CoreId("forgotten"), now=now)
        assert len(step_store.claim(connection, core_id=OTHER, now=now, at_most=10)) == 2
        mine = connection.execute(
            text("SELECT task_id FROM tasker_tasks WHERE processing_core_id = 'core-2' ORDER BY 1")
        )
        assert [row.task_id for row in mine] == [2, 3, 4]


def test_two_that_take_up_retries_at_once_get_different_steps(
    engine: Engine, named: NamedTaskId, now: datetime
) -> None:
    with engine.begin() as connection:
        tasks = [new_task(named, number, f"t{number}") for number in range(1, 7)]
        create(connection, tasks, core_id=CORE, now=now)
        connection.execute(
            text(
                "UPDATE tasker_workflow_steps SET state = 'waiting_for_retry', "
                "next_attempt_at = :now WHERE name = 'validate'"
            ),
            {"now": now},
        )
    with engine.connect() as connection, engine.connect() as another:
        mine = step_store.due_retries(connection, core_id=CORE, now=now, at_most=4)
        theirs = step_store.due_retries(another, core_id=CORE, now=now, at_most=4)
        assert (len(mine), len(theirs)) == (4, 2)
        assert set(mine).isdisjoint(theirs)


def test_a_workflow_published_by_two_cores_at_once_is_a_conflict_to_be_tried_again(
    engine: Engine, manual_clock: ManualClock
) -> None:
    with engine.connect() as connection:
        Story(connection, manual_clock).publish(diamond("twice"))
        other = meanwhile(
            engine, lambda theirs: Story(theirs, manual_clock).publish(diamond("twice"))
        )
        assert not other.done()
        connection.commit()
        with pytest.raises(IntegrityError) as raised:
            other.result()
        assert connections.is_conflict(raised.value)


def test_partitions_that_two_make_at_once_are_made_once(
    engine: Engine, manual_clock: ManualClock
) -> None:
    around = manual_clock.now() + timedelta(days=400)
    with engine.connect() as connection:
        assert schema.ensure_partitions(connection, around) == 12
        other = meanwhile(engine, lambda theirs: schema.ensure_partitions(theirs, around))
        assert not other.done()
        connection.commit()
        assert other.result() == 0


def test_the_ledger_can_be_read_and_written_while_partitions_are_made(
    engine: Engine, manual_clock: ManualClock, named: NamedTaskId
) -> None:
    around = manual_clock.now() + timedelta(days=400)
    ledger = "tasker_step_execution_batch_received_results"
    with engine.connect() as connection, engine.connect() as another:
        another.execute(text(f"LOCK TABLE {ledger} IN ROW EXCLUSIVE MODE"))
        assert schema.ensure_partitions(connection, around) == 12
        assert another.execute(text(f"SELECT count(*) FROM {ledger}")).scalar_one() == 0  # noqa: S608


def test_a_core_name_that_two_processes_take_at_once_is_given_to_one(
    engine: Engine, now: datetime
) -> None:
    def take(connection: Connection) -> int | None:
        return worker_store.start_core(connection, OTHER, {}, now=now, lease_seconds=10)

    with engine.connect() as connection:
        assert take(connection) == 1
        other = meanwhile(engine, take)
        assert not other.done()
        connection.commit()
        assert other.result() is None
