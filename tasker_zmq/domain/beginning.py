"""When a task may begin, and where it stands in line: its mode, its time and its priority."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tasker_zmq.domain.urgency import BACKGROUND


class ExecutionMode(StrEnum):
    """How a task is to be run."""

    IMMEDIATE = "immediate"
    SCHEDULED = "scheduled"
    BACKGROUND = "background"


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Not before this moment, if there is one; and its place among all that is ready."""

    scheduled_for: datetime | None
    priority: int


def beginning(
    mode: ExecutionMode | None, *, scheduled_for: datetime | None, priority: int
) -> Beginning:
    """What mode, time and priority come to; raises ValueError when they contradict each other.

    A task of the background comes behind every other; a later moment is allowed with it.
    """
    match mode:
        case ExecutionMode.IMMEDIATE if scheduled_for is not None:
            raise ValueError("execution_mode is 'immediate', and scheduled_for names a time")
        case ExecutionMode.SCHEDULED if scheduled_for is None:
            raise ValueError("execution_mode is 'scheduled', and scheduled_for names no time")
        case ExecutionMode.BACKGROUND:
            return Beginning(scheduled_for=scheduled_for, priority=BACKGROUND + priority)
        case _:
            return Beginning(scheduled_for=scheduled_for, priority=priority)
