"""Many tasks in one command, and the short answer to it: one line for each, in order."""

from typing import Final

import msgspec

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.commands import NULL, ErrorData
from tasker_zmq.protocol.tasks import TaskRequest

TASKS_PER_COMMAND_MAX: Final = 1_000
STEPS_PER_COMMAND_MAX: Final = 10_000  # of all its tasks; the first may have as many as it likes
WORKFLOWS_PER_COMMAND_MAX: Final = 100
TOO_MANY: Final = "too_many"  # the code of requests beyond these: they go into another command
TASKS_INITIALIZED: Final = "TasksInitialized"
NO_REQUESTS: Final = msgspec.Raw(b"[]")


class ShortRequest(TaskRequest, frozen=True, kw_only=True, omit_defaults=True):
    """A TaskRequest, written without what it does not say: many of them share a command."""


class InitializeTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Create a task for each of `task_requests`, a list of TaskRequest, as InitializeTask does.

    A request that cannot be used is refused by itself, even one that is no TaskRequest at all: so
    they are read one by one. `workflow` is a task template for all of them.
    """

    task_requests: msgspec.Raw = NO_REQUESTS
    workflow: msgspec.Raw = NULL


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What became of one request: a task, which may have been there already, or a refusal."""

    task_id: TaskId | None = None
    duplicate: bool = False
    refused: ErrorData | None = None


class TaskCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests came to what."""

    created: int = 0
    duplicates: int = 0
    refused: int = 0


class TasksInitialized(TaskCounts, frozen=True, kw_only=True):
    """The daemon's answer to InitializeTasks: how many of each kind, then one line per request."""

    tasks: tuple[TaskAnswer, ...] = ()
