"""Which steps become ready when one is complete: known without asking, if memory has the task.

The rows count for themselves what a step still waits for; what memory says is a forecast that the
statement checks.
"""

from array import array
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasker_zmq.domain.ids import NamedStepId, StepId, TaskId
from tasker_zmq.store.definitions import Definition
from tasker_zmq.store.steps import NewTask, ReadyStep

Waits = dict[tuple[TaskId, int], int]  # by task and place of a step


@dataclass
class Course:
    """How far a task is: `waits_for` counts, for each step in order, its unfinished parents."""

    task_id: TaskId
    definition: Definition
    step_ids: Sequence[int]  # in the order of the definition
    waits_for: MutableSequence[int]
    priority: int
    created_at: datetime

    @property
    def size(self) -> int:
        """About as many bytes as it takes."""
        return 12 * len(self.step_ids)

    def beginnings(self) -> list[ReadyStep]:
        """The steps that wait for nothing from the start."""
        return [self._ready(place) for place in self.definition.shape.roots]

    def finish(self, named_step_id: NamedStepId, waits: Waits) -> list[ReadyStep]:
        """The steps that wait for nothing any more; `waits` is on top of the course."""
        shape = self.definition.shape
        ready: list[ReadyStep] = []
        for place in shape.children[shape.places[named_step_id]]:
            key = (self.task_id, place)
            left = waits[key] = waits.get(key, self.waits_for[place]) - 1
            if left == 0:
                ready.append(self._ready(place))
        return ready

    def _ready(self, place: int) -> ReadyStep:
        step = self.definition.steps[place]
        return ReadyStep(
            step_id=StepId(self.step_ids[place]),
            task_id=self.task_id,
            named_task_id=self.definition.named_task_id,
            named_step_id=step.named_step_id,
            priority=self.priority,
            attempts=0,
            retry_limit=step.retry_limit,
            created_at=self.created_at,
        )


def begin(
    task: NewTask, definition: Definition, step_ids: Sequence[int], *, now: datetime
) -> Course:
    """The course of a task that is created now."""
    # Arrays: with a hundred thousand steps it matters that a number takes eight bytes, or four.
    ids, waits_for = array("q", step_ids), array("i", definition.shape.parent_counts)
    return Course(task.task_id, definition, ids, waits_for, task.priority, now)
