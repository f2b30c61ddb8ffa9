"""What people decided about workers: who gets nothing new, and which steps are whose alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tasker_zmq.domain.ids import HandlerClass, TaskId
from tasker_zmq.domain.kinds import Kind, TaskName


class WorkerMode(StrEnum):
    """Draining: nothing new, what it has it ends. Disabled: as if it were gone."""

    ENABLED = "enabled"
    DRAINING = "draining"
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Steps that go to one worker only: of a named task, of a handler, or of one task."""

    worker_name: str
    namespace: str | None = None
    task_name: str | None = None
    version: str | None = None  # None: any
    handler_class: HandlerClass | None = None
    task_id: TaskId | None = None

    def covers(self, kind: Kind, task: TaskName) -> bool:
        """Whether steps of this kind are meant."""
        if self.task_id is not None:
            return kind.pinned_task_id == self.task_id
        if self.handler_class is not None:
            return kind.handler_class == self.handler_class
        same_name = (self.namespace, self.task_name) == (task.namespace, task.name)
        return same_name and self.version in {None, task.version}


@dataclass(frozen=True, kw_only=True)
class Administration:
    """All that was decided; workers that are not named are enabled."""

    modes: Mapping[str, WorkerMode] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()

    def mode(self, worker_name: str) -> WorkerMode:
        return self.modes.get(worker_name, WorkerMode.ENABLED)

    def pinned_to(self, kind: Kind, task: TaskName) -> frozenset[str] | None:
        """The workers that alone may run steps of this kind; None: anybody who can."""
        names = {pin.worker_name for pin in self.pins if pin.covers(kind, task)}
        return frozenset(names) or None

    @property
    def pinned_task_ids(self) -> frozenset[TaskId]:
        """The tasks that pins name by id."""
        return frozenset(pin.task_id for pin in self.pins if pin.task_id is not None)


NOTHING_DECIDED: Final = Administration()
