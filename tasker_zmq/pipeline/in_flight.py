"""Batches that this core has sent, as their rows are: who reports on them need not be looked up.

Only what this process wrote itself and what nobody else has touched since is here; whatever is not
is read from the rows. Writes that follow from it name what they expect to find there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from tasker_zmq.domain.ids import BatchId, StepId
from tasker_zmq.domain.states import BatchEvent, BatchState
from tasker_zmq.pipeline.accounts import BatchView, StepView, Views


class _Sent(NamedTuple):
    batch: BatchView
    steps: dict[StepId, StepView]


@dataclass
class InFlight:
    """Bounded by the credit of the sessions: a batch is dropped when no word of it is awaited."""

    _sent: dict[str, _Sent] = field(default_factory=dict)  # by the batch's UUID
    _uuids: dict[BatchId, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._sent)

    def put(self, batch: BatchView, steps: Iterable[StepView]) -> None:
        """A batch that was just sent."""
        self._sent[batch.batch_uuid] = _Sent(batch, {step.step_id: step for step in steps})
        self._uuids[batch.batch_id] = batch.batch_uuid

    def recall(self, batch_uuid: str, step_id: StepId | None, views: Views) -> bool:
        """Have a tick see the batch, and one step of it; False: the rows must be asked."""
        sent = self._sent.get(batch_uuid)
        if sent is None:
            return False
        views.recall(sent.batch, None if step_id is None else sent.steps.get(step_id))
        return True

    def keep(self, views: Views) -> None:
        """What a tick that was committed has made of the batches that it saw."""
        for uuid, view in views.batches.items():
            sent = self._sent.get(uuid)
            if sent is None:
                continue
            if not view.recalled or view.is_over:
                self.drop([view.batch_id])
                continue
            self._sent[uuid] = sent._replace(batch=view.at_rest())
            for step_id in view.batch_step_ids.keys() & views.steps.keys():
                if views.steps[step_id].state is not sent.steps[step_id].state:
                    sent.steps[step_id] = views.steps[step_id]

    def publish(self, batch_ids: Iterable[tuple[BatchId, datetime]]) -> None:
        """These were marked as published, unless they had gone further."""
        for batch_id, at in batch_ids:
            sent = self._sent.get(self._uuids.get(batch_id, ""))
            if sent is not None and sent.batch.state is BatchState.CREATED:
                sent.batch.published_at = at
                sent.batch.move(BatchEvent.PUBLISH)
                self._sent[sent.batch.batch_uuid] = sent._replace(batch=sent.batch.at_rest())

    def drop(self, batch_ids: Iterable[BatchId]) -> None:
        """They are over, or somebody else has changed them."""
        for batch_id in batch_ids:
            uuid = self._uuids.pop(batch_id, None)
            if uuid is not None:
                del self._sent[uuid]

    def clear(self) -> None:
        self._sent.clear()
        self._uuids.clear()
