"""Put a worker together from what its command line says, and run it in this process."""

import logging
import os
import platform
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
import zmq

from tasker_zmq.clock import Clock, IdMaker, SystemClock, system_dice
from tasker_zmq.domain.credit import burst_for
from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.errors import UnreachableError
from tasker_zmq.protocol import versions
from tasker_zmq.protocol.commands import RegisterWorker, WorkerMetadata
from tasker_zmq.settings import Settings
from tasker_zmq.telemetry import logs
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.durable_outbox import open_outbox
from tasker_zmq.worker.executors.asynchronous import AsyncExecutor
from tasker_zmq.worker.executors.executor import EventInbox, Executor
from tasker_zmq.worker.executors.process import ChildSettings, ProcessExecutor
from tasker_zmq.worker.executors.thread import ThreadExecutor
from tasker_zmq.worker.outbox import MemoryOutbox, Outbox
from tasker_zmq.worker.place import did_you_mean
from tasker_zmq.worker.registry import HandlerRegistry, registry_of
from tasker_zmq.worker.runtime import Worker, WorkerParts
from tasker_zmq.worker.targets import (
    LoadedTargets,
    TargetError,
    load_targets,
    supported_tasks,
    templates_of,
)

# Programs such as `timeout` pass a signal on to the process and to its group: one wish, twice.
SAME_SIGNAL_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a person said; a pool outranks the settings, but for those that `insisted` names."""

    targets: tuple[str, ...]
    settings: Settings
    insisted: frozenset[str]
    name: str | None = None
    outbox: Path | None = None  # in memory without one
    exclusive: bool = False

    def chosen(self, key: str, *, pool: object) -> str:
        """The setting under `key`, or what the pool says instead, as text."""
        if pool is None or key in self.insisted:
            return str(self.settings.value_of(key))
        return str(pool)


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

    Raises TargetError, OutboxFileError or HandlerDefinitionError before anything is connected.
    """
    said = options.settings.log
    logs.configure(level=said.level, style=said.format.value, root=logs.EVERYONE)
    loaded = load_targets(options.targets)
    registry = _registry_of(loaded, options.targets)
    environment = options.chosen("environment", pool=loaded.environment)
    templates = templates_of(loaded, environment=environment)
    _warn_of_missing_handlers(templates, registry)
    concurrency = int(options.chosen("worker.concurrency", pool=loaded.concurrency))
    executor = options.chosen("worker.executor", pool=loaded.executor)
    exclusive = options.exclusive or bool(loaded.exclusive)
    clock, dice, inbox = SystemClock(), system_dice(), EventInbox()
    ids = IdMaker(clock, dice)
    metadata = _metadata(concurrency, executor, started_at=clock.now().isoformat())
    registration = RegisterWorker(
        worker_name=options.name or f"{loaded.name}@{metadata.hostname}",
        handlers=registry.names,
        supported_tasks=supported_tasks(loaded, templates, exclusive=exclusive),
        exclusive=exclusive or msgspec.UNSET,
        templates=tuple(each.source for each in templates),
        metadata=metadata,
        protocol_versions=versions.SPOKEN,
        confirms_start=True,
        instance=ids.uuid7(),
    )
    choice = ExecutorChoice(
        registry=registry,
        concurrency=concurrency,
        inbox=inbox,
        clock=clock,
        child=ChildSettings(
            targets=options.targets, log_level=said.level, log_format=said.format.value
        ),
    )
    with _outbox_of(options.outbox, registration.worker_name, dice) as outbox:
        parts = WorkerParts(
            commands_urls=options.settings.worker.commands,
            drain_seconds=options.settings.worker.drain_seconds,
            registration=registration,
            executor=EXECUTORS[executor](choice),
            inbox=inbox,
            outbox=outbox,
            clock=clock,
            ids=ids,
        )
        _log_start(registration, templates, executor=executor, unrecorded=len(outbox))
        return _serve(parts)


def _outbox_of(
    path: Path | None, worker_name: str, dice: random.Random
) -> AbstractContextManager[Outbox]:
    if path is None:
        return nullcontext(MemoryOutbox(dice.random))
    return open_outbox(path, worker_name=worker_name, chance=dice.random)


def _registry_of(loaded: LoadedTargets, targets: tuple[str, ...]) -> HandlerRegistry:
    registry = registry_of(loaded.modules)
    if not registry.names:
        raise TargetError(
            f"{', '.join(targets)}: no handlers are defined there; mark functions with @step,"
            " or derive classes from StepHandler"
        )
    return registry


def _serve(parts: WorkerParts) -> int:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        worker = _worker_of(parts, context)
        _stop_on_signals(worker, parts.clock)
        return worker.run()
    finally:
        parts.inbox.close()
        context.term()


def _worker_of(parts: WorkerParts, context: "zmq.Context[zmq.Socket[bytes]]") -> Worker:
    try:
        return Worker(parts, context)
    except zmq.ZMQError as error:
        raise UnreachableError(
            f"'{', '.join(parts.commands_urls)}' cannot be connected to ({error}); mend --commands"
            " or worker.commands, such as tcp://127.0.0.1:5557"
        ) from None


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
        max_burst_steps=burst_for(concurrency),
        language_runtime="python",
        runtime_version=platform.python_version(),
        hostname=socket.gethostname(),
        pid=os.getpid(),
        started_at=started_at,
        custom_capabilities={"executor": executor},
    )


def _log_start(
    registration: RegisterWorker,
    templates: tuple[TaskTemplate, ...],
    *,
    executor: str,
    unrecorded: int,
) -> None:
    told = {
        "worker": registration.worker_name,
        "pid": os.getpid(),
        "handlers": len(registration.handlers),
        "workflows": ",".join(each.full_name for each in templates) or "none",
        "concurrency": registration.metadata.max_concurrent_steps,
        "executor": executor,
        "unrecorded": unrecorded,
    }
    log(_log, logging.INFO, Event.WORKER_STARTING, **told)


def _warn_of_missing_handlers(
    templates: tuple[TaskTemplate, ...], registry: HandlerRegistry
) -> None:
    """Another worker may have them; more often a name is misspelt."""
    for template in templates:
        for step in template.steps:
            if registry.find(step.handler_class) is None:
                near = did_you_mean(step.handler_class, registry.names)
                told = {"workflow": template.full_name, "step": step.name}
                told["problem"] = f"no handler '{step.handler_class}' here{near}"
                log(_log, logging.WARNING, Event.HANDLER_MISSING, **told)


def _thread(choice: ExecutorChoice) -> Executor:
    return ThreadExecutor(
        choice.registry,
        concurrency=choice.concurrency,
        inbox=choice.inbox,
        clock=choice.clock,
    )


def _pool_of_processes(choice: ExecutorChoice) -> Executor:
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
    "process": _pool_of_processes,
    "async": _async,
}
