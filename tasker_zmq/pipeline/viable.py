"""Viable steps that this core holds in memory, by handler and priority.

A bounded cache: the rows are the truth, and what does not fit is found again by the sweep. It
spares the database an index on the state of steps, which would be written at every transition.
"""

from collections.abc import Iterable, Iterator

from tasker_zmq.domain.ids import HandlerClass, NamedStepId, NamedTaskId, StepId
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.steps import Crowd, ReadyStep

Entry = tuple[ReadyStep, StepDefinition]


class ViableSteps:
    """First in, first out within a priority; a handler nobody runs delays no other.

    When there is no room left, a step takes the place of one whose handler has more waiting, or
    that is less urgent: who waits for a worker that never comes must not fill all of it.
    """

    def __init__(self, *, steps_max: int) -> None:
        self._steps_max = steps_max
        self._by_handler: dict[HandlerClass, dict[int, dict[StepId, Entry]]] = {}
        self._places: dict[StepId, tuple[HandlerClass, int]] = {}
        self._counts: dict[HandlerClass, int] = {}
        self._definitions: dict[HandlerClass, set[tuple[NamedTaskId, NamedStepId]]] = {}
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
            handler = definition.handler_class
            if len(self._places) >= self._steps_max:
                self.overflowed = True
                if not self._make_room(handler, -ready.priority):
                    continue
            self._counts[handler] = self._counts.get(handler, 0) + 1
            of_handler = self._definitions.setdefault(handler, set())
            of_handler.add((ready.named_task_id, ready.named_step_id))
            lane = self._by_handler.setdefault(handler, {}).setdefault(-ready.priority, {})
            lane[ready.step_id] = (ready, definition)
            self._places[ready.step_id] = (handler, -ready.priority)

    def _make_room(self, handler: HandlerClass, lane: int) -> bool:
        """Give up one step of the handler with most, or a less urgent one of this handler."""
        largest = max(self._counts, key=self._counts.__getitem__)
        if self._counts[largest] <= self._counts.get(handler, 0) + 1:
            largest = handler
        lanes = self._by_handler.get(largest, {})
        worst = max(lanes, default=lane)
        if not lanes or (largest == handler and worst <= lane):
            return False
        self.discard([next(reversed(lanes[worst]))])
        return True

    def discard(self, step_ids: Iterable[StepId]) -> None:
        for step_id in step_ids:
            place = self._places.pop(step_id, None)
            if place is None:
                continue
            handler, lane = place
            lanes = self._by_handler[handler]
            self._counts[handler] -= 1
            del lanes[lane][step_id]
            if not lanes[lane]:
                del lanes[lane]
            if not lanes:
                del self._by_handler[handler], self._counts[handler], self._definitions[handler]

    def crowd(self) -> Crowd | None:
        """What more of the same would not help: steps of handlers with more than their share."""
        share = self._steps_max // (2 * max(1, len(self._counts)))
        crowded = [handler for handler, count in self._counts.items() if count > share]
        if not crowded:
            return None
        return Crowd(
            definitions=frozenset().union(*(self._definitions[each] for each in crowded)),
            priority=-max(max(self._by_handler[each]) for each in crowded),
        )

    def handlers(self) -> tuple[HandlerClass, ...]:
        """Handlers for which steps wait."""
        return tuple(self._by_handler)

    def waiting(self) -> dict[HandlerClass, int]:
        """How many steps wait for each handler."""
        return dict(self._counts)

    def peek(self, handler: HandlerClass) -> Iterator[Entry]:
        """Steps for one handler, most urgent first; the caller discards what it sent."""
        lanes = self._by_handler.get(handler, {})
        for lane in sorted(lanes):
            yield from lanes[lane].values()
