"""The breakers that a core knows; a worker that does its work has none."""

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tasker_zmq.domain.breaker import Breaker, Pair
from tasker_zmq.domain.ids import BatchId, HandlerClass

COUNTED_MAX: Final = 10_000


@dataclass
class Breakers:
    """Closed ones that count failures, up to COUNTED_MAX of them, and all that are not closed."""

    _counted: dict[Pair, Breaker] = field(default_factory=dict)
    _shut: dict[HandlerClass, dict[str, Breaker]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._counted or self._shut)

    def copy(self) -> "Breakers":
        return Breakers(
            dict(self._counted), {handler: dict(each) for handler, each in self._shut.items()}
        )

    def find(self, pair: Pair) -> Breaker | None:
        found = self._counted.get(pair)
        return found or self.shut(pair.handler_class).get(pair.worker_name)

    def shut(self, handler_class: HandlerClass) -> Mapping[str, Breaker]:
        """By worker, those of a handler that are open or half open."""
        return self._shut.get(handler_class, {})

    def all_shut(self) -> Iterator[tuple[Pair, Breaker]]:
        for handler_class, by_worker in self._shut.items():
            for worker_name, breaker in by_worker.items():
                yield Pair(worker_name, handler_class), breaker

    def put(self, pair: Pair, breaker: Breaker) -> None:
        self._drop(pair)
        if breaker.next_try_at is not None:
            self._shut.setdefault(pair.handler_class, {})[pair.worker_name] = breaker
        elif breaker.failures:
            if len(self._counted) >= COUNTED_MAX:
                del self._counted[next(iter(self._counted))]  # the one that failed longest ago
            self._counted[pair] = breaker

    def _drop(self, pair: Pair) -> None:
        self._counted.pop(pair, None)
        by_worker = self._shut.get(pair.handler_class)
        if by_worker is not None:
            by_worker.pop(pair.worker_name, None)
            if not by_worker:
                del self._shut[pair.handler_class]

    def take_over(self, known: Mapping[Pair, Breaker], *, forgiven: Collection[str] = ()) -> None:
        """From now on just these are not closed; of workers `forgiven` nothing is counted."""
        for pair, breaker in list(self.all_shut()):
            if pair not in known or known[pair].next_try_at != breaker.next_try_at:
                self._drop(pair)
        for pair, breaker in known.items():
            if self.find(pair) is None or pair in self._counted:
                self.put(pair, breaker)
        for pair in [each for each in self._counted if each.worker_name in forgiven]:
            del self._counted[pair]

    def try_with(self, pair: Pair, batch_id: BatchId) -> None:
        """This batch carries the one step by which it is seen whether the worker can do it."""
        breaker = self.shut(pair.handler_class).get(pair.worker_name)
        if breaker is not None:
            self._shut[pair.handler_class][pair.worker_name] = replace(breaker, probe=batch_id)

    def bars(self, pair: Pair, now: datetime, *, under_way: Container[BatchId]) -> bool:
        """Whether the worker is to get no step of the handler now."""
        breaker = self.shut(pair.handler_class).get(pair.worker_name)
        return breaker is not None and not breaker.lets_one(now, under_way=under_way)

    def next_try(self, now: datetime) -> datetime | None:
        """When the next one that is open becomes half open."""
        coming = [
            breaker.next_try_at
            for _, breaker in self.all_shut()
            if breaker.next_try_at is not None and breaker.next_try_at > now
        ]
        return min(coming, default=None)
