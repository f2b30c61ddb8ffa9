"""Contexts and results that this core wrote lately: what a request to a worker is made of.

A step that becomes ready in the very tick in which its last parent ended is sent without reading
back what was just written. The rows are the truth: whatever is not here is read from them.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from tasker_zmq.domain.ids import NamedStepId, TaskId
from tasker_zmq.pipeline.foresight import Course, Waits
from tasker_zmq.store.steps import ReadyStep

SIZE_MAX = 64 * 1024 * 1024


@dataclass
class _TaskContents:
    context: str
    course: Course | None
    results: dict[str, str] = field(default_factory=dict)  # by the name of the step; JSON text

    @property
    def size(self) -> int:
        course = self.course.size if self.course else 0
        return course + len(self.context) + sum(map(len, self.results.values()))


@dataclass
class Contents:
    """Bounded in characters of JSON; the task that was written to longest ago goes first."""

    _size_max: int = SIZE_MAX
    _size: int = 0
    _tasks: OrderedDict[TaskId, _TaskContents] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._tasks)

    def context(self, task_id: TaskId) -> str | None:
        found = self._tasks.get(task_id)
        return None if found is None else found.context

    def result(self, task_id: TaskId, step: str) -> str | None:
        found = self._tasks.get(task_id)
        return None if found is None else found.results.get(step)

    def course(self, task_id: TaskId) -> Course | None:
        found = self._tasks.get(task_id)
        return None if found is None else found.course

    def begin(self, task_id: TaskId, context: str, course: Course | None = None) -> None:
        """A task that was just created."""
        self.drop([task_id])
        begun = self._tasks[task_id] = _TaskContents(context, course)
        self._grow(begun.size)

    def add(self, task_id: TaskId, step: str, result: str) -> None:
        """A result of a task that is known here; of others no context is at hand anyway."""
        found = self._tasks.get(task_id)
        if found is None:
            return
        self._tasks.move_to_end(task_id)
        grown = len(result) - len(found.results.get(step, ""))
        found.results[step] = result
        self._grow(grown)

    def drop(self, task_ids: Iterable[TaskId]) -> None:
        for task_id in task_ids:
            found = self._tasks.pop(task_id, None)
            if found is not None:
                self._size -= found.size

    def clear(self) -> None:
        self._tasks.clear()
        self._size = 0

    def _grow(self, by: int) -> None:
        self._size += by
        while self._size > self._size_max:
            _, oldest = self._tasks.popitem(last=False)
            self._size -= oldest.size


class ContentsOfTurn:
    """What one tick writes, on top of what was written before; kept only after the commit."""

    def __init__(self, known: Contents) -> None:
        self._known = known
        self._begun: dict[TaskId, tuple[str, Course | None]] = {}
        self._waits: Waits = {}
        self._results: dict[tuple[TaskId, str], str] = {}
        self._over: set[TaskId] = set()

    def begin(self, task_id: TaskId, context: str, course: Course | None = None) -> None:
        """A task that this tick creates."""
        self._begun[task_id] = (context, course)

    def add(self, task_id: TaskId, step: str, result: str) -> None:
        self._results[task_id, step] = result

    def drop(self, task_ids: Iterable[TaskId]) -> None:
        """These tasks have come to their end, or are held up: the rows are asked from here on."""
        self._over.update(task_ids)

    def context(self, task_id: TaskId) -> str | None:
        if task_id in self._over:
            return None
        fresh = self._begun.get(task_id)
        return self._known.context(task_id) if fresh is None else fresh[0]

    def finish(self, task_id: TaskId, named_step_id: NamedStepId) -> list[ReadyStep] | None:
        """A step is complete: those that become ready by it; None if only the rows know."""
        if task_id in self._over:
            return None
        fresh = self._begun.get(task_id)
        course = self._known.course(task_id) if fresh is None else fresh[1]
        return None if course is None else course.finish(named_step_id, self._waits)

    def previous_results(self, task_id: TaskId, parents: Sequence[str]) -> str | None:
        """One JSON object with the result of each parent; None unless all are at hand."""
        members: list[str] = []
        for parent in parents:
            result = self._results.get((task_id, parent)) or self._known.result(task_id, parent)
            if result is None:
                return None
            members.append(f"{orjson.dumps(parent).decode()}:{result}")
        return "{" + ",".join(members) + "}"

    def keep(self) -> None:
        """The tick was committed."""
        for task_id, (context, course) in self._begun.items():
            self._known.begin(task_id, context, course)
        for (task_id, place), left in self._waits.items():
            if (known := self._known.course(task_id)) is not None:
                known.waits_for[place] = left
        for (task_id, step), result in self._results.items():
            self._known.add(task_id, step, result)
        self._known.drop(self._over)
