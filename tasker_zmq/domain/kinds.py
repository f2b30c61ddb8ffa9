"""What decides which workers a step may go to: its handler, and the named task that it is of."""

from typing import NamedTuple

from tasker_zmq.domain.ids import HandlerClass, NamedTaskId, TaskId


class TaskName(NamedTuple):
    """What a named task is called."""

    namespace: str
    name: str
    version: str

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"


class Kind(NamedTuple):
    """Steps that the same workers may run; those of a task that a pin names are a kind apart."""

    handler_class: HandlerClass
    named_task_id: NamedTaskId
    pinned_task_id: TaskId | None = None
