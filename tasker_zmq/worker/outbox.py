"""Results that were not yet recorded by the daemon: each is sent again until it is.

In memory they do not outlive the process; durable_outbox.py keeps them in a file as well.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import BatchCompletion, BatchError, PartialResult

RESEND_SECONDS: Final = 1.0
RESEND_SECONDS_MAX: Final = 15.0

Report = PartialResult | BatchCompletion | BatchError


class OutboxKey(NamedTuple):
    """What a ResultsRecorded entry names."""

    batch_id: BatchUuid
    message_type: str
    step_id: StepId | None
    sequence: int | None


def key_of(report: Report) -> OutboxKey:
    """Under which name the daemon will say that `report` is recorded."""
    if isinstance(report, PartialResult):
        return OutboxKey(report.batch_id, topics.PARTIAL_RESULT, report.step_id, report.sequence)
    completed = isinstance(report, BatchCompletion)
    topic = topics.BATCH_COMPLETION if completed else topics.BATCH_ERROR
    return OutboxKey(report.batch_id, topic, None, None)


class Unrecorded(NamedTuple):
    """A result, how often it was sent, and when it is to be sent (again)."""

    key: OutboxKey
    report: Report
    sent: int
    due: float


class Outbox(Protocol):
    """Keeps each result from the moment it exists until the daemon has recorded it."""

    def add(self, key: OutboxKey, report: Report, *, now: float) -> None:
        """Keep it; it is due at once."""

    def due(self, now: float) -> tuple[Unrecorded, ...]:
        """What is to be sent now, oldest first; the caller says of each `sent` or `later`."""

    def sent(self, key: OutboxKey, *, now: float) -> None:
        """It left; it is due again after a while."""

    def later(self, key: OutboxKey, *, now: float) -> None:
        """It could not leave; it is due again after a moment."""

    def hurry(self, *, now: float, batch_id: BatchUuid | None = None) -> None:
        """Make everything (or one batch) due: the daemon listens again, or asked again."""

    def recorded(self, entries: Iterable[Recorded]) -> None:
        """Forget what the daemon has for good."""

    def next_due(self) -> float | None:
        """When `due` has something at the earliest."""

    def batch_ids(self) -> tuple[BatchUuid, ...]:
        """The batches of which something is kept."""

    def unacknowledged(self, limit: int) -> tuple[Unrecorded, ...]:
        """At most `limit` of the results kept, oldest first."""

    def settle(self, *, now: float) -> str | None:
        """Write down what changed; why that could not be done, or None. Nothing kept is lost."""

    def __len__(self) -> int: ...


class MemoryOutbox:
    """What is kept, and the timetable by which it is sent; bounded by the session's credit."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance  # from 0 to 1, spreads the resends of many workers
        self._kept: dict[OutboxKey, Unrecorded] = {}
        self._fresh: deque[Unrecorded] = deque()  # in the order in which they came, due at once
        self._timetable: list[tuple[float, int, OutboxKey]] = []  # a heap
        self._entries = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: OutboxKey, report: Report, *, now: float) -> None:
        entry = self._kept[key] = Unrecorded(key, report, 0, now)
        self._fresh.append(entry)

    def due(self, now: float) -> tuple[Unrecorded, ...]:
        found: list[Unrecorded] = []
        while (entry := self._first()) is not None and entry.due <= now:
            heapq.heappop(self._timetable)
            found.append(entry)
        while (entry := self._first_fresh()) is not None and entry.due <= now:
            self._fresh.popleft()
            found.append(entry)
        return tuple(found)

    def sent(self, key: OutboxKey, *, now: float) -> None:
        entry = self._kept.get(key)
        if entry is None:
            return
        wait = min(RESEND_SECONDS * 2.0**entry.sent, RESEND_SECONDS_MAX)
        due = now + wait * (0.75 + 0.25 * self._chance())
        self._keep(Unrecorded(key, entry.report, entry.sent + 1, due))

    def later(self, key: OutboxKey, *, now: float) -> None:
        entry = self._kept.get(key)
        if entry is not None:
            self._keep(entry._replace(due=now + RESEND_SECONDS))

    def hurry(self, *, now: float, batch_id: BatchUuid | None = None) -> None:
        for key, entry in list(self._kept.items()):
            if batch_id is None or key.batch_id == batch_id:
                self._keep(entry._replace(due=now))

    def recorded(self, entries: Iterable[Recorded]) -> None:
        for each in entries:
            key = OutboxKey(each.batch_id, each.message_type, each.step_id, each.sequence)
            self._kept.pop(key, None)

    def next_due(self) -> float | None:
        dues = [each.due for each in (self._first_fresh(), self._first()) if each is not None]
        return min(dues, default=None)

    def batch_ids(self) -> tuple[BatchUuid, ...]:
        return tuple(dict.fromkeys(key.batch_id for key in self._kept))

    def unacknowledged(self, limit: int) -> tuple[Unrecorded, ...]:
        return tuple(entry for entry, _ in zip(self._kept.values(), range(limit), strict=False))

    def settle(self, *, now: float) -> str | None:
        return None

    def _keep(self, entry: Unrecorded) -> None:
        self._kept[entry.key] = entry
        self._entries += 1
        heapq.heappush(self._timetable, (entry.due, self._entries, entry.key))

    def _first(self) -> Unrecorded | None:
        """The entry that is due first; times that no longer hold are dropped on the way."""
        while self._timetable:
            due, _, key = self._timetable[0]
            entry = self._kept.get(key)
            if entry is not None and entry.due == due:
                return entry
            heapq.heappop(self._timetable)
        return None

    def _first_fresh(self) -> Unrecorded | None:
        """The first of those that were never due before; what has changed since is dropped."""
        while self._fresh:
            entry = self._fresh[0]
            if self._kept.get(entry.key) is entry:
                return entry
            self._fresh.popleft()
        return None
