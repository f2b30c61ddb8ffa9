"""The router: a mapping from command type to its handler, and the lane in which it is answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from tasker_zmq.commands import (
    analysing,
    calling,
    claiming,
    controlling,
    deciding,
    diagnosing,
    ending,
    envelope,
    executing,
    managing,
    publishing,
    questions,
    starting,
    workers,
)
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.replies import Asked
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import (
    analytics,
    bulk,
    claims,
    codec,
    control,
    management,
    messages,
    tasks,
    topics,
)
from tasker_zmq.protocol import commands as payloads
from tasker_zmq.protocol import executing as wishes
from tasker_zmq.protocol import workers as about_workers
from tasker_zmq.protocol.commands import Peer


class Lane(StrEnum):
    """Who answers: the engine in its tick, a reader with a session of its own, or a snapshot."""

    ENGINE = "engine"
    ENGINE_LATER = "engine_later"  # behind results and the life of workers
    READER = "reader"
    WAIT = "wait"  # a reader that waits until there is something to tell
    OBSERVER = "observer"  # a reader that also knows the moment and the snapshot
    SNAPSHOT = "snapshot"
    MANAGEMENT = "management"  # at once, by the daemon itself
    CALL = "call"  # a thread of its own
    RESULT = "result"  # the engine, as a message from the result socket


@dataclass(frozen=True)
class Route:
    """How one type of command is answered; `handle` gets what its lane has at hand.

    `once`: the same command, sent again, gets the first one's answer and does nothing.
    `routed`: it obeys a `worker_routing`, or is a worker's own, for which there is none to choose.
    `beside`: another route for those commands whose answer needs more.
    """

    lane: Lane
    payload: type[Any]
    reply_type: str
    handle: Callable[..., Any]
    once: bool = False
    routed: bool = False
    beside: Callable[[payloads.Command], "Route | None"] | None = None

    def chosen(self, command: payloads.Command) -> "Route":
        """The route for this very command."""
        return (self.beside(command) if self.beside else None) or self

    @property
    def asks(self) -> bool:
        """Whether it changes nothing."""
        return self.lane in {Lane.READER, Lane.WAIT, Lane.OBSERVER, Lane.SNAPSHOT}


def _publish(sitting: Sitting, _asked: Asked, request: payloads.PublishTemplates) -> object:
    return publishing.publish_templates(sitting, request)


def _together(*_: object) -> None:
    """Requests for tasks are answered by the set; see commands.making."""


def _patience(command: payloads.Command) -> Route | None:
    """Who gives time is answered once a task has ended."""
    try:
        request = codec.decode_data(command.payload.data, payloads.GetTaskStates)
    except ProtocolError:
        return None
    return _WAITING if request.wait_seconds else None


_WAITING: Final = Route(Lane.WAIT, payloads.GetTaskStates, "TaskStates", questions.states_among)


def _diagnosis(command: payloads.Command) -> Route | None:
    """What needs no rows, or is none, is answered from the snapshot."""
    try:
        request = codec.decode_data(command.payload.data, payloads.HealthCheck)
    except ProtocolError:
        return None
    return _DIAGNOSIS if diagnosing.wants_rows(request) else None


_DIAGNOSIS: Final = Route(Lane.OBSERVER, payloads.HealthCheck, "Health", diagnosing.diagnose)


def _recorded(*_: object) -> None:
    """A result is answered with the ledger's verdict; see pipeline.reporting."""


INITIALIZE_TASK: Final = "InitializeTask"
INITIALIZE_TASKS: Final = "InitializeTasks"
CONTROLLED: Final = "Controlled"
REPORTED: Final = "ResultReported"
REPORTS: Final[Mapping[str, str]] = {
    "ReportPartialResult": topics.PARTIAL_RESULT,
    "ReportBatchCompletion": topics.BATCH_COMPLETION,
}

ROUTES: Final[Mapping[str, Route]] = {
    INITIALIZE_TASK: Route(
        Lane.ENGINE_LATER, tasks.InitializeTask, "TaskInitialized", _together, routed=True
    ),
    INITIALIZE_TASKS: Route(
        Lane.ENGINE_LATER, bulk.InitializeTasks, bulk.TASKS_INITIALIZED, _together, routed=True
    ),
    "PublishTemplates": Route(
        Lane.ENGINE, payloads.PublishTemplates, "TemplatesPublished", _publish, once=True
    ),
    "RegisterWorker": Route(
        Lane.ENGINE,
        payloads.RegisterWorker,
        "WorkerRegistered",
        workers.register_worker,
        once=True,
        routed=True,
    ),
    "WorkerHeartbeat": Route(
        Lane.ENGINE, payloads.WorkerHeartbeat, "HeartbeatReceived", workers.heartbeat, routed=True
    ),
    "ConfirmStart": Route(
        Lane.ENGINE, payloads.ConfirmStart, "StartConfirmed", workers.confirm_start, routed=True
    ),
    "WorkerGoodbye": Route(
        Lane.ENGINE, payloads.WorkerGoodbye, "GoodbyeReceived", workers.goodbye, routed=True
    ),
    "ReportPartialResult": Route(
        Lane.RESULT, messages.PartialResult, REPORTED, _recorded, routed=True
    ),
    "ReportBatchCompletion": Route(
        Lane.RESULT, messages.BatchCompletion, REPORTED, _recorded, routed=True
    ),
    "QuerySteps": Route(Lane.READER, tasks.QuerySteps, "Steps", questions.query_steps),
    "GetTask": Route(Lane.READER, payloads.GetTask, "Task", questions.get_task),
    "GetTaskStates": Route(
        Lane.READER,
        payloads.GetTaskStates,
        "TaskStates",
        questions.get_task_states,
        beside=_patience,
    ),
    "ListTasks": Route(Lane.READER, payloads.ListTasks, "Tasks", questions.list_tasks),
    "ControlSteps": Route(
        Lane.ENGINE_LATER,
        control.ControlSteps,
        CONTROLLED,
        controlling.control_steps,
        once=True,
    ),
    "ControlTasks": Route(
        Lane.ENGINE_LATER,
        control.ControlTasks,
        CONTROLLED,
        controlling.control_tasks,
        once=True,
    ),
    "DecideDeadLetters": Route(
        Lane.ENGINE_LATER,
        control.DecideDeadLetters,
        CONTROLLED,
        deciding.decide_dead_letters,
        once=True,
    ),
    "ExecuteBatch": Route(
        Lane.ENGINE_LATER, wishes.ExecuteBatch, executing.SENT, executing.execute_batch, once=True
    ),
    "ExecuteWorkflow": Route(
        Lane.ENGINE_LATER,
        wishes.ExecuteWorkflow,
        "WorkflowExecuted",
        starting.execute_workflow,
        once=True,
        routed=True,
    ),
    "QueryAnalytics": Route(
        Lane.OBSERVER, analytics.QueryAnalytics, "Analytics", analysing.query_analytics
    ),
    "ManageWorker": Route(
        Lane.ENGINE, about_workers.ManageWorker, "WorkerManaged", managing.manage_worker, once=True
    ),
    "PingWorker": Route(
        Lane.ENGINE, about_workers.PingWorker, "WorkerPinged", managing.ping_worker
    ),
    "QueryReadyTasks": Route(
        Lane.OBSERVER, claims.QueryReadyTasks, "ReadyTasks", claiming.query_ready_tasks
    ),
    "ClaimReadyTasks": Route(
        Lane.ENGINE_LATER,
        claims.ClaimReadyTasks,
        "TasksClaimed",
        claiming.claim_ready_tasks,
        once=True,
    ),
    "ReleaseMutex": Route(
        Lane.ENGINE_LATER,
        claims.ReleaseMutex,
        "MutexReleased",
        claiming.release_mutex,
        once=True,
    ),
    "DiscoverReadyTasks": Route(
        Lane.ENGINE_LATER,
        claims.DiscoverReadyTasks,
        "DiscoveryBegun",
        claiming.discover_ready_tasks,
    ),
    "ShutdownWorker": Route(
        Lane.ENGINE_LATER,
        management.ShutdownWorker,
        "WorkerShutdown",
        ending.shut_down_worker,
        once=True,
    ),
    "SystemManagement": Route(
        Lane.MANAGEMENT, management.SystemManagement, "SystemManaged", ending.manage_system
    ),
    "Call": Route(Lane.CALL, management.Call, "Called", calling.call),
    "HealthCheck": Route(
        Lane.SNAPSHOT, payloads.HealthCheck, "Health", questions.health, beside=_diagnosis
    ),
}


def command_type(word: str) -> str:
    """`register_worker`, as some seed clients write it, is `RegisterWorker`."""
    return "".join(part.capitalize() for part in word.split("_")) if "_" in word else word


def elsewhere(target: Peer, *, now: datetime) -> Route:
    """What is meant for another core: a reader looks up where that one is."""
    handle = partial(_elsewhere, target=target, now=now)
    return Route(Lane.READER, msgspec.Raw, "Error", handle)


def _elsewhere(connection: Connection, _content: object, *, target: Peer, now: datetime) -> None:
    envelope.refuse_elsewhere(connection, target, now=now)
