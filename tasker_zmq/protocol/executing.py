"""What is asked to be run now: a task, or steps by a worker that somebody names."""

import msgspec

from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.executing import Execution
from tasker_zmq.domain.ids import BatchUuid, CoreId, SessionId, StepId, TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.protocol.commands import NULL
from tasker_zmq.protocol.control import Refusal
from tasker_zmq.protocol.envelope import WorkerRouting
from tasker_zmq.protocol.tasks import TaskRequest


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


class ExecuteWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """Run a task now: the one with this id, or a new one, made as InitializeTask makes it.

    Mode `scheduled` leaves a task that is there to its own time.
    """

    task_id: TaskId | None = None
    task_request: TaskRequest | None = None
    workflow: msgspec.Raw = NULL  # with task_request: a task template for this task
    execution_mode: ExecutionMode | None = None
    worker_preferences: WorkerRouting | None = None  # before the envelope's worker_routing


class WorkflowExecuted(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ExecuteWorkflow: what it did, or why there was nothing to do.

    `ready_steps` are sent as there is room; `steps` counts them by state, before any of it.
    """

    task_id: TaskId
    outcome: Execution
    message: str
    state: TaskState
    core_id: CoreId | None
    ready_steps: int
    steps: dict[str, int]
    scheduled_for: str | None = None
