"""Whether a task with failures has come to its end."""

from dataclasses import dataclass

from tasker_zmq.domain.states import TaskEvent


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How many steps of a task can still move by themselves, and how many failed."""

    running: int
    waiting: int
    ready: int
    failed: int
    in_doubt: int = 0


def task_event(standing: Standing) -> TaskEvent | None:
    """FAIL once steps failed and nothing else can proceed; None while anything still moves.

    A step in doubt waits for a person and may still become anything, so the task is not over.
    """
    moving = standing.running + standing.waiting + standing.ready + standing.in_doubt
    return TaskEvent.FAIL if standing.failed and not moving else None
