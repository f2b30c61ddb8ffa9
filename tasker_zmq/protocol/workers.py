"""What people ask about workers: who gets work, whether one answers, a batch for one of them."""

from enum import StrEnum

import msgspec

from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.domain.ids import SessionId, StepId, TaskId


class ManageAction(StrEnum):
    """What ManageWorker does."""

    DRAIN = "drain"
    DISABLE = "disable"
    ENABLE = "enable"
    PIN = "pin"
    UNPIN = "unpin"


class PinTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of a named task (`namespace/name`, or with `@version`), of a handler, or of a task."""

    named_task: str | None = None
    handler_class: str | None = None
    task_id: TaskId | None = None


class ManageWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Decide about a worker, wherever it is connected; `why` and who decided are kept."""

    worker_name: str
    action: ManageAction
    pin: PinTarget | None = None
    why: str = ""
    by: str | None = None  # else the command's source


class WorkerManaged(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ManageWorker; every core obeys within a moment."""

    worker_name: str
    mode: WorkerMode
    pins: tuple[PinTarget, ...] = ()


class PingWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a worker for a sign of life, through its own connection."""

    worker_name: str
    timeout_ms: int = 5_000


class WorkerPinged(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to PingWorker, once the worker has answered."""

    worker_name: str
    session_id: SessionId
    core_id: str
    round_trip_ms: float
    subscribed: bool


class ExecuteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Send these steps, which could be sent now, to one worker as a batch of their own.

    Without `worker_name` the worker is chosen, by `selection_strategy` of the command's
    worker_routing if it names one.
    """

    worker_name: str | None = None
    step_ids: tuple[StepId, ...]


class StepRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was not sent, and why."""

    step_id: StepId
    code: str
    message: str


class BatchExecuted(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ExecuteBatch: what is sent, in the very moment, and to whom."""

    worker_name: str
    session_id: SessionId
    step_ids: tuple[StepId, ...]
    refused: tuple[StepRefusal, ...] = ()
