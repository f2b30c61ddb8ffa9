"""Batches that this core has sent, as their rows are: who reports on them need not be looked up.

Only what this process wrote itself and what nobody else has touched since is here; whatever is not
is read from the rows. Writes that follow from it name what they expect to find there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tasker_zmq.domain.ids import BatchId, StepId
from tasker_zmq.domain.states import BatchEvent, BatchState
from tasker_zmq.pipeline.accounts import BatchView, StepView, Views


@dataclass
class InFlight:
    """Bounded by the credit of the sessions: a batch is dropped when no word of it is awaited."""

    _batches: dict[str, BatchView] = field(default_factory=dict)
    _steps: dict[str, dict[StepId, StepView]] = field(default_factory=dict)
    _uuids: dict[BatchId, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._batches)

    def put(self, batch: BatchView, steps: Iterable[StepView]) -> None:
        """A batch that was just sent."""
        self._batches[batch.batch_uuid] = batch
        self._steps[batch.batch_uuid] = {step.step_id: step for step in steps}
        self._uuids[batch.batch_id] = batch.batch_uuid

    def recall(self, batch_uuid: str, step_id: StepId | None, views: Views) -> bool:
        """Have a tick see the batch, and one step of it; False: the rows must be asked."""
        batch = self._batches.get(batch_uuid)
        if batch is None:
            return False
        step = None if step_id is None else self._steps[batch_uuid].get(step_id)
        views.recall(batch, step)
        return True

    def keep(self, views: Views) -> None:
        """What a tick that was committed has made of the batches that it saw."""
        for uuid, view in views.batches.items():
            if uuid not in self._batches:
                continue
            if not view.recalled or view.is_over:
                self.drop([view.batch_id])
                continue
            self._batches[uuid] = view.at_rest()
            steps = self._steps[uuid]
            for step_id in view.batch_step_ids.keys() & views.steps.keys():
                if views.steps[step_id].state is not steps[step_id].state:
                    steps[step_id] = views.steps[step_id]

    def publish(self, batch_ids: Iterable[tuple[BatchId, datetime]]) -> None:
        """These were marked as published, unless they had gone further."""
        for batch_id, at in batch_ids:
            batch = self._batches.get(self._uuids.get(batch_id, ""))
            if batch is not None and batch.state is BatchState.CREATED:
                batch.published_at = at
                batch.move(BatchEvent.PUBLISH)
                self._batches[batch.batch_uuid] = batch.at_rest()

    def drop(self, batch_ids: Iterable[BatchId]) -> None:
        """They are over, or somebody else has changed them."""
        for batch_id in batch_ids:
            uuid = self._uuids.pop(batch_id, None)
            if uuid is not None:
                del self._batches[uuid], self._steps[uuid]

    def clear(self) -> None:
        self._batches.clear()
        self._steps.clear()
        self._uuids.clear()
