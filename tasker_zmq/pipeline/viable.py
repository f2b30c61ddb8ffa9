"""Viable steps that this core holds in memory, by kind and priority.

A bounded cache: the rows are the truth, and what does not fit is found again by the sweep. It
spares the database an index on the state of steps, which would be written at every transition.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from tasker_zmq.domain.ids import HandlerClass, NamedStepId, NamedTaskId, StepId, TaskId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.steps import ReadyStep
from tasker_zmq.store.sweeping import Crowd

Entry = tuple[ReadyStep, StepDefinition]


class ViableSteps:
    """First in, first out within a kind and priority; a kind that nobody runs delays no other.

    When there is no room left, a step takes the place of one whose kind has more waiting, or
    that is less urgent: who waits for a worker that never comes must not fill all of it.
    """

    def __init__(self, *, steps_max: int) -> None:
        self._steps_max = steps_max
        self._by_kind: dict[Kind, dict[int, dict[StepId, Entry]]] = {}
        self._places: dict[StepId, tuple[Kind, int]] = {}
        self._counts: dict[Kind, int] = {}
        self._named_steps: dict[Kind, set[tuple[NamedTaskId, NamedStepId]]] = {}
        self._tasks: dict[Kind, TaskName] = {}
        self._pinned: Collection[TaskId] = ()
        self.overflowed = False

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, step_id: object) -> bool:
        return step_id in self._places

    @property
    def full(self) -> bool:
        """Whether another page of a sweep would hardly fit."""
        return len(self._places) > self._steps_max // 2

    def add(self, entries: Iterable[Entry]) -> None:
        for ready, definition in entries:
            if ready.step_id in self._places:
                continue
            kind = self.kind_of(ready.task_id, definition)
            if len(self._places) >= self._steps_max:
                self.overflowed = True
                if not self._make_room(kind, -ready.priority):
                    continue
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._tasks.setdefault(kind, definition.named_task)
            of_kind = self._named_steps.setdefault(kind, set())
            of_kind.add((ready.named_task_id, ready.named_step_id))
            lane = self._by_kind.setdefault(kind, {}).setdefault(-ready.priority, {})
            first = next(iter(lane), None)
            # One value for a whole lane: a hundred thousand of them were a tenth of the memory.
            place = (kind, -ready.priority) if first is None else self._places[first]
            lane[ready.step_id] = (ready, definition)
            self._places[ready.step_id] = place

    def kind_of(self, task_id: TaskId, definition: StepDefinition) -> Kind:
        pinned = task_id if self._pinned and task_id in self._pinned else None
        return Kind(definition.handler_class, definition.named_task_id, pinned)

    def apart(self, entries: Collection[Entry]) -> "ViableSteps":
        """These steps by the same kinds, but not kept here."""
        found = ViableSteps(steps_max=len(entries))
        found.pin(self._pinned)
        found.add(entries)
        return found

    def _make_room(self, kind: Kind, lane: int) -> bool:
        """Give up one step of the kind with most, or a less urgent one of this kind."""
        largest = max(self._counts, key=self._counts.__getitem__)
        if self._counts[largest] <= self._counts.get(kind, 0) + 1:
            largest = kind
        lanes = self._by_kind.get(largest, {})
        worst = max(lanes, default=lane)
        if not lanes or (largest == kind and worst <= lane):
            return False
        self.discard([next(reversed(lanes[worst]))])
        return True

    def discard(self, step_ids: Iterable[StepId]) -> None:
        for step_id in step_ids:
            place = self._places.pop(step_id, None)
            if place is None:
                continue
            kind, lane = place
            lanes = self._by_kind[kind]
            self._counts[kind] -= 1
            del lanes[lane][step_id]
            if not lanes[lane]:
                del lanes[lane]
            if not lanes:
                del self._by_kind[kind], self._counts[kind]
                del self._named_steps[kind], self._tasks[kind]

    def pin(self, task_ids: Collection[TaskId]) -> None:
        """From now on steps of these tasks are kinds of their own, and those of no others."""
        if set(task_ids) == set(self._pinned):
            return
        entries = [entry for kind in self.kinds() for entry in self.peek(kind)]
        self.discard([ready.step_id for ready, _ in entries])
        self._pinned = frozenset(task_ids)
        self.add(entries)

    def crowd(self) -> Crowd | None:
        """What more of the same would not help: steps of kinds with more than their share."""
        share = self._steps_max // (2 * max(1, len(self._counts)))
        crowded = [kind for kind, count in self._counts.items() if count > share]
        if not crowded:
            return None
        return Crowd(
            definitions=frozenset().union(*(self._named_steps[each] for each in crowded)),
            priority=-max(max(self._by_kind[each]) for each in crowded),
        )

    def kinds(self) -> Mapping[Kind, TaskName]:
        """Kinds of which steps wait, with the named task of each."""
        return self._tasks

    def waiting(self) -> dict[HandlerClass, int]:
        """How many steps wait for each handler."""
        found: Counter[HandlerClass] = Counter()
        for kind, count in self._counts.items():
            found[kind.handler_class] += count
        return dict(found)

    def lanes(self, kind: Kind) -> tuple[int, ...]:
        """The lanes in which steps of a kind wait: the most urgent has the smallest number."""
        return tuple(self._by_kind.get(kind, ()))

    def lane(self, kind: Kind, lane: int) -> Iterator[Entry]:
        """Steps of one kind and priority in their order; the caller discards what it sent."""
        return iter(self._by_kind.get(kind, {}).get(lane, {}).values())

    def peek(self, kind: Kind) -> Iterator[Entry]:
        """Steps of one kind, most urgent first."""
        for lane in sorted(self.lanes(kind)):
            yield from self.lane(kind, lane)
