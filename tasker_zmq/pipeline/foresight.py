"""Which steps become ready when one is complete: known without asking, if memory has the task.

The rows count for themselves what a step still waits for; what memory says is a forecast that the
statement checks.
"""

from collections.abc import Sequence
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
    waits_for: list[int]
    priority: int
    created_at: datetime

    @property
    def size(self) -> int:
        """About as many bytes as it takes."""
        return 16 * len(self.step_ids)

    def finish(self, named_step_id: NamedStepId, waits: Waits) -> list[ReadyStep]:
        """The steps that wait for nothing any more; `waits` is on top of the course."""
        shape, definition = self.definition.shape, self.definition
        ready: list[ReadyStep] = []
        for place in shape.children[shape.places[named_step_id]]:
            key = (self.task_id, place)
            left = waits[key] = waits.get(key, self.waits_for[place]) - 1
            if left == 0:
                step = definition.steps[place]
                ready.append(
                    ReadyStep(
                        step_id=StepId(self.step_ids[place]),
                        task_id=self.task_id,
                        named_task_id=definition.named_task_id,
                        named_step_id=step.named_step_id,
                        priority=self.priority,
                        attempts=0,
                        retry_limit=step.retry_limit,
                        created_at=self.created_at,
                    )
                )
        return ready


def begin(
    task: NewTask, definition: Definition, step_ids: Sequence[int], *, now: datetime
) -> Course:
    """The course of a task that is created now."""
    waits_for = list(definition.shape.parent_counts)
    return Course(task.task_id, definition, step_ids, waits_for, task.priority, now)
