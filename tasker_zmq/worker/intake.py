"""A frame from the steps topic as a batch to run, or as the answer to one that cannot be run."""

import logging

import msgspec

from tasker_zmq.domain.ids import BatchUuid
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import BatchError, StepBatch, StepError
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.runs import printable

_log = logging.getLogger(__name__)


class OnlyBatchId(msgspec.Struct, frozen=True):
    """As much of a broken batch as is needed to answer it."""

    batch_id: BatchUuid


def understand(
    frame: bytes, *, limits: WireLimits, worker_id: str
) -> StepBatch | BatchError | None:
    """The batch, or the error that its sender is told; None when not even its id can be read."""
    try:
        batch = codec.decode_step_batch(frame, limits)
        _check(batch, limits)
    except ProtocolError as error:
        fields = {"problem": printable(str(error))[:400], "frame_bytes": len(frame)}
        log(_log, logging.ERROR, Event.BATCH_NOT_UNDERSTOOD, **fields)
        return _answer(frame, error, worker_id)
    return batch


def _check(batch: StepBatch, limits: WireLimits) -> None:
    """A batch must be one that can be accounted for step by step."""
    if len(batch.steps) > limits.batch_steps_max:
        raise ProtocolError(
            "too_many_steps", f"{len(batch.steps)} steps, at most {limits.batch_steps_max}"
        )
    if len(batch.steps) > 1 and len({each.step_id for each in batch.steps}) != len(batch.steps):
        raise ProtocolError("repeated_step", "one step stands in the batch twice")


def _answer(frame: bytes, error: ProtocolError, worker_id: str) -> BatchError | None:
    try:
        _, body = codec.split_topic([frame], 1)
        batch_id = msgspec.json.decode(body, type=OnlyBatchId).batch_id
    except (ProtocolError, msgspec.DecodeError, RecursionError, ValueError):
        return None
    reason = StepError(
        message=printable(str(error)), error_type="UndecodableBatch", retryable=False
    )
    return BatchError(batch_id=batch_id, error=reason, worker_id=worker_id)
