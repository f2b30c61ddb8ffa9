"""What people are told of a task."""

from tasker_zmq.domain.explanation import explain
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.store.reads import tasks as reads
from tasker_zmq.store.reads.standing import standing
from tasker_zmq.testing.world import World


def explained(world: World, task_id: TaskId) -> str:
    now = world.clock.now()
    with world.engine.connect() as connection:
        shown = reads.show(connection, task_id)
        assert shown is not None
        return explain(standing(connection, shown, now=now), now=now)
