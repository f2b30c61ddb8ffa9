"""What moves of steps mean for their tasks: which may go on, which have come to their end."""

from collections.abc import Sequence

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.outcome import Standing, task_event
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.steps import Moved, ReadyStep


def entries(turn: Turn, ready: Sequence[ReadyStep]) -> list[Entry]:
    """Ready steps with their definitions."""
    return [
        (
            step,
            turn.state.step_definition(turn.connection, step.named_task_id, step.named_step_id),
        )
        for step in ready
    ]


def end_blocked_tasks(turn: Turn, moved: Moved) -> None:
    """End those of the tasks with failures in which nothing can proceed."""
    if not moved.blocked:
        return
    blocked = sorted(set(moved.blocked))
    counts = step_store.counts(turn.connection, blocked)
    over = [task_id for task_id in blocked if _is_over(task_id, counts)]
    if over:
        step_store.fail_tasks(turn.connection, over, now=turn.now)


def _is_over(task_id: TaskId, counts: dict[TaskId, step_store.StepCounts]) -> bool:
    found = counts[task_id]
    standing = Standing(
        running=found.running,
        waiting=found.waiting,
        ready=found.ready,
        failed=found.failed,
        in_doubt=found.in_doubt,
    )
    return task_event(standing) is not None
