"""An engine that meets somebody else's transaction: it tries again, and no message is at fault."""

import threading
from contextlib import suppress

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tasker_zmq.daemon.engine import EngineThread
from tasker_zmq.testing.world import Node, World, template

LOOKS_MAX = 20_000
SETTLED_SECONDS_MAX = 60


def await_blocked(engine: Engine) -> None:
    """Until somebody waits for a lock that another holds."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    with engine.connect() as watching:
        for _ in range(LOOKS_MAX):
            if watching.execute(query).scalar_one():
                return
            watching.rollback()
    raise AssertionError("nobody waited for a lock")


@pytest.mark.parametrize("crossing", [True, False])
def test_results_that_meet_a_lock_or_a_deadlock_are_applied_once_when_it_is_over(
    world: World, thread: EngineThread, engine: Engine, *, crossing: bool
) -> None:
    world.publish(template("single", {"a": Node()}))
    world.worker()
    task = world.submit("single")
    settling = threading.Thread(target=thread._deal_with, args=(world.work(),))
    with engine.connect() as other:
        other.execute(text("SELECT 1 FROM tasker_workflow_steps FOR UPDATE"))
        settling.start()
        await_blocked(engine)  # it holds the batch, and waits for the step
        if crossing:
            with suppress(OperationalError):  # PostgreSQL ends one of the two
                other.execute(text("SELECT 1 FROM tasker_step_execution_batches FOR UPDATE"))
        other.rollback()
    settling.join(SETTLED_SECONDS_MAX)
    assert not settling.is_alive()
    assert world.task(task).state == "complete"
    assert world.verdicts() == ["applied", "applied"]
