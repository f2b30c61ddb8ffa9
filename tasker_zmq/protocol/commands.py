"""Control-plane messages: an envelope, and one struct per payload; asked over ROUTER/DEALER.

A reply correlates by `correlation_id = command_id`; its payload is `Success` or `Error`.
"""

from typing import Any, Final

import msgspec

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId, TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.protocol.envelope import CoreAddress

SUCCESS: Final = "Success"
ERROR: Final = "Error"
# What nobody here reads stays as it came: a megabyte of lists takes half a second to make.
EMPTY: Final = msgspec.Raw(b"{}")
NULL: Final = msgspec.Raw(b"null")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends or receives a command."""

    type: str
    id: str


class CommandMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The seeds' fields; `timestamp` is ISO 8601, `timeout_ms` how long the sender waits.

    `retry_policy` is an envelope.RetryPolicy; beside it, see Command.
    """

    timestamp: str | None = None
    source: Peer | None = None
    target: Peer | None = None
    timeout_ms: int | None = None
    retry_policy: msgspec.Raw = NULL
    namespace: str | None = None
    priority: str | int | None = None


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """`type` names the struct that `data` decodes to."""

    type: str
    data: msgspec.Raw = EMPTY


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope, the same for requests, replies and what the daemon tells a worker unasked.

    `worker_routing` is an envelope.WorkerRouting, `audit_context` an envelope.AuditContext.
    """

    command_type: str
    command_id: str
    correlation_id: str | None = None
    metadata: CommandMetadata = CommandMetadata()
    worker_routing: msgspec.Raw = NULL
    audit_context: msgspec.Raw = NULL
    payload: Payload


class ErrorData(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command was refused: a stable word, a sentence, what to do, and who would do it."""

    code: str
    message: str
    hint: str = ""
    core: CoreAddress | msgspec.UnsetType = msgspec.UNSET


# What a worker asks.


class SupportedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A named task that the worker can run; the version may be `*`, which is any."""

    namespace: str
    name: str
    version: str
    configuration: dict[str, Any] = {}
    priority: int = 100


class WorkerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself."""

    max_concurrent_steps: int = 1
    max_burst_steps: int | msgspec.UnsetType = msgspec.UNSET  # unset: no more than the credit
    step_timeout_ms: int | None = None
    supports_retries: bool = True
    language_runtime: str = ""
    runtime_version: str = ""
    hostname: str = ""
    pid: int | None = None
    started_at: str | None = None
    custom_capabilities: dict[str, Any] = {}


class InHand(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that the worker has accepted, and the steps of it that have not ended."""

    batch_id: BatchUuid
    step_ids: tuple[StepId, ...] = ()


class RegisterWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process introduces itself; `templates` are the workflows that its code defines."""

    worker_name: str
    handlers: tuple[str, ...] = ()
    supported_tasks: tuple[SupportedTask, ...] = ()
    templates: tuple[dict[str, Any], ...] = ()
    metadata: WorkerMetadata = WorkerMetadata()
    protocol_versions: tuple[str, ...] = ("2.0",)
    connection_info: dict[str, Any] = {}
    former_session_id: SessionId | None = None  # of this very process; what is not in hand is lost
    in_hand: tuple[InHand, ...] = ()
    confirms_start: bool = False  # it sends ConfirmStart; without it such steps are sent at once
    former_session_ids: tuple[SessionId, ...] = ()  # of the same process, at cores that are away
    instance: str | None = None  # a name of this process life: the same at every core
    credit: int | None = None  # of its whole credit, what it grants to this core; null: all of it
    registrations: int = 0  # of this instance so far, this one included
    exclusive: bool | msgspec.UnsetType = msgspec.UNSET  # steps of supported_tasks, and no others


class DataPlane(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect for work and results."""

    steps: str
    results: str


class WorkerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon refuses to read, in bytes and counts."""

    result_bytes_max: int
    batch_steps_max: int
    nesting_max: int


class TaskCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """How a supported task is covered: how many live workers know it, and this one's rank."""

    namespace: str
    name: str
    version: str
    competing_workers: int
    your_priority_rank: int


class TemplateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one workflow that a worker or a person offered."""

    full_name: str
    verdict: str  # published | unchanged | refused
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class WorkerRegistered(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to RegisterWorker."""

    worker_database_id: int
    worker_name: str
    session_id: SessionId
    topic: str
    endpoints: DataPlane
    protocol_version: str
    core_id: str
    heartbeat_interval_seconds: float
    next_heartbeat_expected_at: str
    credit: int
    limits: WorkerLimits
    registered_task_count: int
    assigned_task_coverage: tuple[TaskCoverage, ...] = ()
    templates: tuple[TemplateVerdict, ...] = ()
    cores: tuple[CoreAddress, ...] = ()
    whole_credit: int | None = None  # what the worker may hold in all, for it to share out


class WorkerHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's sign of life."""

    session_id: SessionId
    current_load: int = 0
    in_hand: tuple[InHand, ...] = ()
    last_publication: int = 0
    system_stats: msgspec.Raw = EMPTY
    last_command_processed: str | None = None
    credit: int | None = None  # as in RegisterWorker


class HeartbeatReceived(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to WorkerHeartbeat; `subscribed`: it sees the session's subscription.

    `cores` are those that live, this one among them; empty when nothing is known of any.
    """

    core_id: str
    epoch: int
    next_heartbeat_expected_at: str
    subscribed: bool = True
    cores: tuple[CoreAddress, ...] = ()


class WorkerGoodbye(msgspec.Struct, frozen=True, kw_only=True):
    """A worker leaves; what it still holds goes back."""

    session_id: SessionId
    reason: str = "stopped"
    unfinished: tuple[InHand, ...] = ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One message that is in the ledger for good; `step_id` is null for a completion."""

    batch_id: BatchUuid
    step_id: StepId | None
    sequence: int | None
    message_type: str
    verdict: str


class ResultsRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """Daemon to worker, after the commit: these messages need not be kept any longer."""

    session_id: SessionId
    recorded: tuple[Recorded, ...]


class ConfirmStart(msgspec.Struct, frozen=True, kw_only=True):
    """Worker to daemon: may these steps, which must not run twice, be started now."""

    session_id: SessionId
    batch_id: BatchUuid
    step_ids: tuple[StepId, ...]


class StartConfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ConfirmStart: what is not named must never be started."""

    batch_id: BatchUuid
    step_ids: tuple[StepId, ...]


class CancelSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Daemon to worker: nobody wants these results any more; handlers that look are told."""

    session_id: SessionId
    steps: tuple[InHand, ...]
    reason: str = ""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Daemon to worker: send a heartbeat now."""

    session_id: SessionId


# What a client asks.


class PublishTemplates(msgspec.Struct, frozen=True, kw_only=True):
    """Make these task templates known to the database."""

    templates: tuple[dict[str, Any], ...]


class TemplatesPublished(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to PublishTemplates, one verdict each, in order."""

    verdicts: tuple[TemplateVerdict, ...]


class GetTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task with its steps."""

    task_id: TaskId


TASKS_PER_QUESTION_MAX = 1_000


class GetTaskStates(msgspec.Struct, frozen=True, kw_only=True):
    """How these tasks stand; at most TASKS_PER_QUESTION_MAX.

    With `wait_seconds` the answer comes once one of them has ended, or after so long.
    """

    task_ids: tuple[TaskId, ...]
    wait_seconds: float | None = None


class StateOfTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task's state."""

    task_id: TaskId
    state: TaskState


class TaskStates(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to GetTaskStates: those of the tasks that exist."""

    states: tuple[StateOfTask, ...]


class ListTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first; every filter is optional."""

    namespace: str | None = None
    name: str | None = None
    state: str | None = None
    limit: int = 50
    before_task_id: int | None = None


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Is the daemon well? Answered from a snapshot, whatever the rest does."""

    diagnostic_level: str = "basic"
    include_worker_status: bool = False
    include_ready_task_count: bool = False
