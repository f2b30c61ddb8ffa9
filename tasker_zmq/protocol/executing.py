"""What is asked to be run now: steps by a worker that somebody names, beside the usual dispatch."""

import msgspec

from tasker_zmq.domain.ids import BatchUuid, CoreId, SessionId, StepId
from tasker_zmq.protocol.control import Refusal


class ExecuteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Send these steps to this worker, as far as they may be sent and it has room."""

    worker_name: str
    step_ids: tuple[StepId, ...]


class SentBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch on its way, with its steps in their order."""

    batch_id: BatchUuid
    step_ids: tuple[StepId, ...]


class BatchesSent(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ExecuteBatch: each step is in a batch or refused, with the reason."""

    worker_name: str
    session_id: SessionId
    core_id: CoreId
    batches: tuple[SentBatch, ...] = ()
    refused: tuple[Refusal, ...] = ()
