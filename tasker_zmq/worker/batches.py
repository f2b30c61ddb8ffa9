"""The batches that this worker has accepted, and what it has to say of each when it ends."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.protocol.commands import InHand
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    PartialResult,
    StepBatch,
    StepSummary,
)
from tasker_zmq.worker.runs import COMPLETED, FAILED, Outcome, Progress, RunKey

REMEMBERED_BATCHES_MAX: Final = 10_000


@dataclass(eq=False)
class OpenBatch:
    """A batch with steps that have not ended; `sequence` is the number given out last."""

    batch: StepBatch
    accepted_at: float
    unfinished: dict[StepId, None]
    sequence: int = 0
    summaries: list[StepSummary] = field(default_factory=list)
    given_back: bool = False
    dropped: int = 0  # never to be started, and not accounted for


class BatchesInHand:
    """Open batches by id, and the ids of those that ended lately, so that none runs twice."""

    def __init__(self, worker_name: str) -> None:
        self._worker_name = worker_name
        self._open: dict[BatchUuid, OpenBatch] = {}
        self._ended: OrderedDict[BatchUuid, None] = OrderedDict()

    @property
    def load(self) -> int:
        """How many steps have not ended."""
        return sum(len(each.unfinished) for each in self._open.values())

    def knows(self, batch_id: BatchUuid) -> bool:
        return batch_id in self._open or batch_id in self._ended

    def accept(self, batch: StepBatch, *, now: float) -> None:
        """Take a batch in hand; the caller has seen that it is not known."""
        unfinished = dict.fromkeys(each.step_id for each in batch.steps)
        self._open[batch.batch_id] = OpenBatch(batch, now, unfinished)

    def in_hand(self) -> tuple[InHand, ...]:
        return tuple(
            InHand(batch_id=batch_id, step_ids=tuple(each.unfinished))
            for batch_id, each in self._open.items()
        )

    def progress(self, key: RunKey, what: Progress, *, timestamp: str) -> PartialResult | None:
        """The `in_progress` report of a step; None when it has ended already."""
        opened = self._open.get(key[0])
        if opened is None or key[1] not in opened.unfinished:
            return None
        opened.sequence += 1
        return PartialResult(
            batch_id=key[0],
            step_id=key[1],
            status="in_progress",
            worker_id=self._worker_name,
            sequence=opened.sequence,
            timestamp=timestamp,
            progress=what.value,
        )

    def end_step(self, key: RunKey, outcome: Outcome, *, timestamp: str) -> PartialResult | None:
        """The report of a step that ended; None when it had ended before."""
        batch_id, step_id = key
        opened = self._open.get(batch_id)
        if opened is None or step_id not in opened.unfinished:
            return None
        del opened.unfinished[step_id]
        opened.sequence += 1
        status = COMPLETED if outcome.completed else FAILED
        digest = hashlib.sha256(outcome.output).hexdigest() if outcome.completed else None
        opened.summaries.append(
            StepSummary(
                step_id=step_id,
                final_status=status,
                execution_time_ms=outcome.execution_time_ms,
                worker_id=self._worker_name,
                output_digest=digest,
            )
        )
        return PartialResult(
            batch_id=batch_id,
            step_id=step_id,
            status=status,
            output=outcome.output,
            error=outcome.error,
            worker_id=self._worker_name,
            sequence=opened.sequence,
            timestamp=timestamp,
            execution_time_ms=outcome.execution_time_ms,
        )

    def drop(self, keys: Collection[RunKey]) -> None:
        """Take out steps that must never start: nothing will be said of them."""
        for batch_id, step_id in keys:
            opened = self._open.get(batch_id)
            if opened is not None and step_id in opened.unfinished:
                del opened.unfinished[step_id]
                opened.dropped += 1

    def is_over(self, batch_id: BatchUuid) -> bool:
        """Whether it is open although all its steps have ended: `end_batch` has its account."""
        opened = self._open.get(batch_id)
        return opened is not None and not opened.unfinished

    def end_batch(
        self, batch_id: BatchUuid, *, now: float, timestamp: str
    ) -> BatchCompletion | None:
        """The closing account, once the last step has ended; None before, and after.

        It is about the steps that were not dropped, and there is none when all were.
        """
        opened = self._open.get(batch_id)
        if opened is None or opened.unfinished or opened.given_back:
            return None
        del self._open[batch_id]
        self.remember(batch_id)
        if opened.dropped and not opened.summaries:
            return None
        completed = sum(each.final_status == COMPLETED for each in opened.summaries)
        return BatchCompletion(
            batch_id=batch_id,
            protocol_version=opened.batch.protocol_version,
            total_steps=len(opened.batch.steps) - opened.dropped,
            completed_steps=completed,
            failed_steps=len(opened.summaries) - completed,
            step_summaries=tuple(opened.summaries),
            completed_at=timestamp,
            total_execution_time_ms=round((now - opened.accepted_at) * 1_000, 3),
            worker_id=self._worker_name,
        )

    def give_back(self, keys: tuple[RunKey, ...]) -> tuple[InHand, ...]:
        """Take these steps out of their batches, which then have no completion from us."""
        given: dict[BatchUuid, list[StepId]] = {}
        for batch_id, step_id in keys:
            opened = self._open.get(batch_id)
            if opened is not None and step_id in opened.unfinished:
                del opened.unfinished[step_id]
                opened.given_back = True
                given.setdefault(batch_id, []).append(step_id)
        return _entries(given)

    def remember(self, batch_id: BatchUuid) -> None:
        """Never run a batch of this id, although it is not open."""
        self._ended[batch_id] = None
        while len(self._ended) > REMEMBERED_BATCHES_MAX:
            self._ended.popitem(last=False)


def merged(entries: Iterable[InHand]) -> tuple[InHand, ...]:
    """One entry per batch."""
    found: dict[BatchUuid, list[StepId]] = {}
    for each in entries:
        found.setdefault(each.batch_id, []).extend(each.step_ids)
    return _entries(found)


def _entries(found: Mapping[BatchUuid, Sequence[StepId]]) -> tuple[InHand, ...]:
    return tuple(InHand(batch_id=key, step_ids=tuple(ids)) for key, ids in found.items())
