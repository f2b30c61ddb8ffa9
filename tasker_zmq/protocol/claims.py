"""Ready tasks and who owns them: to be asked for, claimed, given up, and looked for now."""

from datetime import datetime
from typing import Final

import msgspec

from tasker_zmq.domain.ids import CoreId, TaskId

TASKS_MAX: Final = 1_000  # that one command names, or is answered
LEAVE_SECONDS_MAX: Final = 3_600.0


class QueryReadyTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks could start or go on now: the most urgent first, then the oldest."""

    limit: int = 50


class ReadyTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task with steps that may be sent; a core that is not alive owns it until another claims."""

    task_id: TaskId
    workflow: str
    priority: int
    ready_steps: int
    requested_at: datetime
    core_id: CoreId | None
    core_alive: bool
    claimed_at: datetime | None


class ReadyTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to QueryReadyTasks; `more`: the limit cut it off."""

    tasks: tuple[ReadyTask, ...]
    more: bool


class ClaimReadyTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Own open tasks that nobody living owns, now and not at the next sweep."""

    limit: int = 10


class TasksClaimed(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ClaimReadyTasks; `ready_steps` of them are sent as there is room."""

    core_id: CoreId
    task_ids: tuple[TaskId, ...]
    ready_steps: int


class ReleaseMutex(msgspec.Struct, frozen=True, kw_only=True):
    """Give up this core's claims; it leaves the tasks to others for `leave_seconds`."""

    task_ids: tuple[TaskId, ...]
    why: str
    leave_seconds: float = 30.0


class MutexReleased(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ReleaseMutex: others may claim what was `released` at once.

    Steps of those `in_flight` are with workers; the others are over, or are not this core's.
    """

    core_id: CoreId
    released: tuple[TaskId, ...]
    in_flight: tuple[TaskId, ...]
    not_held: tuple[TaskId, ...]


class DiscoverReadyTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Sweep now: claim what nobody living owns, and look for viable steps in all tasks of ours."""


class DiscoveryBegun(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to DiscoverReadyTasks, before it looks; so many steps it knows."""

    core_id: CoreId
    viable_steps: int
