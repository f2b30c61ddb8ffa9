"""A worker in a thread, a daemon of the tests' own, and a check that neither leaves anything."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zmq

from tasker_zmq.clock import IdMaker, SystemClock
from tasker_zmq.protocol.commands import RegisterWorker, WorkerMetadata
from tasker_zmq.worker.executors.executor import EventInbox
from tasker_zmq.worker.executors.thread import ThreadExecutor
from tasker_zmq.worker.handlers import make_handler
from tasker_zmq.worker.outbox import MemoryOutbox, Outbox
from tasker_zmq.worker.place import NOWHERE
from tasker_zmq.worker.registry import HandlerRegistry
from tasker_zmq.worker.runtime import Worker, WorkerParts
from tests import forking
from tests.worker.fake_daemon import FakeDaemon

END_SECONDS = 20.0

ORDERS = """
from tasker_zmq import step, workflow

@step
def validate(order):
    return {"valid": order["id"]}

@step(after=validate, attempts=2)
def ship(order, validate, ctx):
    return [validate["valid"], ctx.attempt]

@step
def wait_for_line(path):
    with open(path) as pipe:
        return pipe.read()

@step
def note(path, number):
    with open(path, "a") as file:
        print(number, file=file)

fulfil = workflow("orders/fulfil@1.0.0", ship)
"""


def registry_from(**handlers: Callable[..., Any]) -> HandlerRegistry:
    """Handlers under the names of the arguments."""
    return HandlerRegistry(
        {
            name: make_handler(target, name, place=NOWHERE, aliases={})
            for name, target in handlers.items()
        }
    )


class RunningWorker:
    """A worker's loop in a thread of the test's process."""

    def __init__(self, worker: Worker, parts: WorkerParts) -> None:
        self.worker = worker
        self.parts = parts
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.exit_code = self.worker.run()

    def stop(self) -> None:
        self.worker.ask_to_stop()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> int | None:
        self._thread.join(END_SECONDS)
        assert not self._thread.is_alive(), "the worker did not end"
        return self.exit_code


@pytest.fixture
def zmq_context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    ender = threading.Thread(target=context.term, daemon=True)
    ender.start()
    ender.join(END_SECONDS)
    assert not ender.is_alive(), "a socket was left open"


@pytest.fixture(params=["tcp", "ipc"])
def daemon(
    request: pytest.FixtureRequest,
    zmq_context: "zmq.Context[zmq.Socket[bytes]]",
    tmp_path: Path,
) -> Iterator[FakeDaemon]:
    """One that listens to results; over TCP and over Unix sockets."""
    if request.param == "tcp":
        steps = results = "tcp://127.0.0.1:*"
    else:
        steps, results = f"ipc://{tmp_path}/s", f"ipc://{tmp_path}/r"
    found = FakeDaemon(zmq_context, steps=steps, results=results)
    found.listen()
    yield found
    found.close()


@pytest.fixture
def start_worker(
    zmq_context: "zmq.Context[zmq.Socket[bytes]]", daemon: FakeDaemon
) -> Iterator[Callable[..., RunningWorker]]:
    """Starts a worker with the handlers given by name; it is stopped after the test."""
    running: list[RunningWorker] = []

    def start(
        *,
        concurrency: int = 2,
        drain_seconds: float = 0.0,
        outbox: Outbox | None = None,
        commands_urls: tuple[str, ...] = (),
        **handlers: Callable[..., Any],
    ) -> RunningWorker:
        clock, inbox = SystemClock(), EventInbox()
        registry = registry_from(**handlers)
        parts = WorkerParts(
            commands_urls=commands_urls or (daemon.url,),
            drain_seconds=drain_seconds,
            registration=RegisterWorker(
                worker_name="worker-1",
                handlers=registry.names,
                metadata=WorkerMetadata(max_concurrent_steps=concurrency),
                instance="life-1",
            ),
            executor=ThreadExecutor(registry, concurrency=concurrency, inbox=inbox, clock=clock),
            inbox=inbox,
            outbox=outbox or MemoryOutbox(Random(1).random),
            clock=clock,
            ids=IdMaker(clock, Random(1)),
        )
        running.append(RunningWorker(Worker(parts, zmq_context), parts))
        return running[-1]

    yield start
    for each in running:
        each.stop()
        while each.is_alive:
            daemon.answer_goodbyes()
        each.wait()
        each.parts.inbox.close()


class RunningProgram:
    """A `tasker-worker` process; what it says is read from `errors`, which it fills."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        reading, writing = os.pipe()
        self.errors = open(reading, encoding="utf-8")  # noqa: SIM115, PTH123 - an end of a pipe
        with open(writing, "wb") as theirs, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            self.process = forking.start(
                "worker", arguments, variables=os.environ, cwd=cwd, streams=(nowhere, theirs)
            )

        self.pid = self.process.pid
        self.send_signal = self.process.send_signal

    def end(self) -> tuple[int, str]:
        """Wait for it: the exit code and what it said since."""
        said = self.errors.read()
        return self.process.wait(END_SECONDS), said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(END_SECONDS)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., RunningProgram]]:
    """Starts `tasker-worker`; what still runs after the test is killed."""
    started: list[RunningProgram] = []
    (tmp_path / "orders.py").write_text(ORDERS)

    def start(*arguments: str, commands: str = "tcp://127.0.0.1:1") -> RunningProgram:
        started.append(RunningProgram(*arguments, "--commands", commands, cwd=tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.end()
        each.errors.close()
