"""The schema as mapped classes, one module per family."""

from tasker_zmq.store.tables.batches import (
    Batch,
    BatchStep,
    Discrepancy,
    ReceivedResult,
)
from tasker_zmq.store.tables.commands import CommandAudit
from tasker_zmq.store.tables.cores import CoordinationLock, Core, ReleasedClaim
from tasker_zmq.store.tables.declarative import Base
from tasker_zmq.store.tables.definitions import NamedStep, NamedTask, NamedTaskStep, Namespace
from tasker_zmq.store.tables.failures import DeadLetter, DeadLetterStatus
from tasker_zmq.store.tables.submissions import Submission
from tasker_zmq.store.tables.transitions import BatchTransition, StepTransition, TaskTransition
from tasker_zmq.store.tables.work import StepEdge, Task, WorkflowStep
from tasker_zmq.store.tables.workers import (
    Reachability,
    Registration,
    RegistrationStatus,
    SupportedTask,
    Worker,
    WorkerBreaker,
    WorkerPin,
)

__all__ = [
    "Base",
    "Batch",
    "BatchStep",
    "BatchTransition",
    "CommandAudit",
    "CoordinationLock",
    "Core",
    "DeadLetter",
    "DeadLetterStatus",
    "Discrepancy",
    "NamedStep",
    "NamedTask",
    "NamedTaskStep",
    "Namespace",
    "Reachability",
    "ReceivedResult",
    "Registration",
    "RegistrationStatus",
    "ReleasedClaim",
    "StepEdge",
    "StepTransition",
    "Submission",
    "SupportedTask",
    "Task",
    "TaskTransition",
    "Worker",
    "WorkerBreaker",
    "WorkerPin",
    "WorkflowStep",
]
