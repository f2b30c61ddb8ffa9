"""Put a worker together from what its command line says, and run it in this process."""

import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Final

import zmq

from tasker_zmq.clock import Clock, IdMaker, SystemClock, system_dice
from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.protocol import versions
from tasker_zmq.protocol.commands import RegisterWorker, SupportedTask, WorkerMetadata
from tasker_zmq.worker.executors.asynchronous import AsyncExecutor
from tasker_zmq.worker.executors.executor import EventInbox, Executor
from tasker_zmq.worker.executors.process import ChildSettings, ProcessExecutor
from tasker_zmq.worker.executors.thread import ThreadExecutor
from tasker_zmq.worker.logs import start_logging
from tasker_zmq.worker.outbox import MemoryOutbox
from tasker_zmq.worker.place import did_you_mean
from tasker_zmq.worker.registry import HandlerRegistry, registry_of
from tasker_zmq.worker.runtime import Worker, WorkerParts
from tasker_zmq.worker.targets import TargetError, load_targets, templates_of

DEFAULT_CONCURRENCY: Final = 4
DEFAULT_EXECUTOR: Final = "thread"
DEFAULT_ENVIRONMENT: Final = "development"
# Programs such as `timeout` pass a signal on to the process and to its group: one wish, twice.
SAME_SIGNAL_SECONDS: Final = 0.2

_log = logging.getLogger("tasker.worker")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a person said; None leaves it to the pool, then to the default."""

    targets: tuple[str, ...]
    commands_url: str
    drain_seconds: float
    log_level: str
    log_format: str
    name: str | None = None
    concurrency: int | None = None
    executor: str | None = None
    environment: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorChoice:
    """Everything that any kind of executor is made from."""

    registry: HandlerRegistry
    concurrency: int
    inbox: EventInbox
    clock: SystemClock
    child: ChildSettings


def run_worker(options: WorkerOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. A second signal ends the process at once.

    Raises TargetError or HandlerDefinitionError before anything is connected.
    """
    start_logging(options.log_level, options.log_format)
    loaded = load_targets(options.targets)
    environment = options.environment or loaded.environment or DEFAULT_ENVIRONMENT
    registry = registry_of(loaded.modules)
    if not registry.names:
        raise TargetError(
            f"{', '.join(options.targets)}: no handlers are defined there; mark functions with"
            " @step, or derive classes from StepHandler"
        )
    templates = templates_of(loaded, environment=environment)
    _warn_of_missing_handlers(templates, registry)
    concurrency = options.concurrency or loaded.concurrency or DEFAULT_CONCURRENCY
    executor = options.executor or loaded.executor or DEFAULT_EXECUTOR
    clock, dice, inbox = SystemClock(), system_dice(), EventInbox()
    metadata = _metadata(concurrency, executor, started_at=clock.now().isoformat())
    registration = RegisterWorker(
        worker_name=options.name or f"{loaded.name}@{metadata.hostname}",
        handlers=registry.names,
        supported_tasks=tuple(
            SupportedTask(namespace=each.namespace, name=each.name, version=each.version)
            for each in templates
        ),
        templates=tuple(each.source for each in templates),
        metadata=metadata,
        protocol_versions=versions.SPOKEN,
    )
    choice = ExecutorChoice(
        registry=registry,
        concurrency=concurrency,
        inbox=inbox,
        clock=clock,
        child=ChildSettings(
            targets=options.targets, log_level=options.log_level, log_format=options.log_format
        ),
    )
    parts = WorkerParts(
        commands_url=options.commands_url,
        drain_seconds=options.drain_seconds,
        registration=registration,
        executor=EXECUTORS[executor](choice),
        inbox=inbox,
        outbox=MemoryOutbox(dice.random),
        clock=clock,
        ids=IdMaker(clock, dice),
    )
    _log_start(registration, templates, executor)
    return _serve(parts)


def _serve(parts: WorkerParts) -> int:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        worker = Worker(parts, context)
        _stop_on_signals(worker, parts.clock)
        return worker.run()
    finally:
        parts.inbox.close()
        context.term()


def _stop_on_signals(worker: Worker, clock: Clock) -> None:
    arrivals: list[float] = []

    def on_signal(_: int, __: FrameType | None) -> None:
        arrivals.append(clock.monotonic())
        if arrivals[-1] - arrivals[0] > SAME_SIGNAL_SECONDS:
            sys.stderr.flush()
            os._exit(1)
        worker.ask_to_stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _metadata(concurrency: int, executor: str, *, started_at: str) -> WorkerMetadata:
    return WorkerMetadata(
        max_concurrent_steps=concurrency,
        language_runtime="python",
        runtime_version=platform.python_version(),
        hostname=socket.gethostname(),
        pid=os.getpid(),
        started_at=started_at,
        custom_capabilities={"executor": executor},
    )


def _log_start(
    registration: RegisterWorker, templates: tuple[TaskTemplate, ...], executor: str
) -> None:
    fields = {
        "worker": registration.worker_name,
        "pid": os.getpid(),
        "handlers": len(registration.handlers),
        "workflows": ",".join(each.full_name for each in templates) or "none",
        "concurrency": registration.metadata.max_concurrent_steps,
        "executor": executor,
    }
    _log.info("worker_starting", extra={"fields": fields})


def _warn_of_missing_handlers(
    templates: tuple[TaskTemplate, ...], registry: HandlerRegistry
) -> None:
    """Another worker may have them; more often a name is misspelt."""
    for template in templates:
        for step in template.steps:
            if registry.find(step.handler_class) is None:
                near = did_you_mean(step.handler_class, registry.names)
                fields = {"workflow": template.full_name, "step": step.name}
                fields["problem"] = f"no handler '{step.handler_class}' here{near}"
                _log.warning("handler_missing", extra={"fields": fields})


def _thread(choice: ExecutorChoice) -> Executor:
    return ThreadExecutor(
        choice.registry,
        concurrency=choice.concurrency,
        inbox=choice.inbox,
        clock=choice.clock,
    )


def _process(choice: ExecutorChoice) -> Executor:
    return ProcessExecutor(
        choice.child, concurrency=choice.concurrency, inbox=choice.inbox, clock=choice.clock
    )


def _async(choice: ExecutorChoice) -> Executor:
    return AsyncExecutor(
        choice.registry,
        concurrency=choice.concurrency,
        inbox=choice.inbox,
        clock=choice.clock,
    )


EXECUTORS: Final[Mapping[str, Callable[[ExecutorChoice], Executor]]] = {
    "thread": _thread,
    "process": _process,
    "async": _async,
}
