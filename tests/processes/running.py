"""Real daemons, workers and clients for the tests; each ended by its own handle."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import zmq
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq.clock import SystemClock
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ERROR, Command, ErrorData, Payload
from tasker_zmq.protocol.limits import WireLimits
from tests import forking

READY_SECONDS_MAX: Final = 30.0  # bounds, not expectations: what is awaited comes much sooner
ANSWER_SECONDS_MAX: Final = 30.0
END_SECONDS_MAX: Final = 45.0
PAUSE_SECONDS: Final = 0.02
LINES_SHOWN: Final = 40
PURPOSES: Final = ("steps", "results", "commands", "health")
REPLY_LIMITS: Final = WireLimits(command_bytes_max=64 << 20, nesting_max=128)

_ids = count(1)


def eventually(fact: Callable[[], bool], what: str, *, seconds_max: float = 30.0) -> None:
    """Wait until `fact` holds; fails with `what` after `seconds_max`."""
    clock, pause = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds_max
    while not fact():
        assert clock.monotonic() < until, f"not within {seconds_max:g} s: {what}"
        pause.wait(PAUSE_SECONDS)


def inherited_variables() -> dict[str, str]:
    """The environment without what would configure a daemon or a worker."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TASKER_", "DATABASE_URL"))
    }


@dataclass
class Program:
    """One process of ours with its log; `expected_exit` is what its end must be, None: any."""

    name: str
    process: forking.Process
    log: Path
    expected_exit: int | None = 0

    @classmethod
    def start(
        cls,
        module: str,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        log: Path,
        cwd: Path,
    ) -> Self:
        with log.open("wb") as said:
            process = forking.start(
                module, arguments, variables=variables, cwd=cwd, streams=(said, said)
            )
        return cls(log.stem, process, log)

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self.log.read_bytes().decode(errors="replace")

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def check(self) -> None:
        """Fail with its last words if it has ended."""
        assert self.is_alive, f"{self.name} ended with {self.process.returncode}:\n{self.tail}"

    @property
    def tail(self) -> str:
        return "\n".join(self.said.splitlines()[-LINES_SHOWN:])

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As `kill -9` does; the process is gone on return."""
        self.expected_exit = None
        self.process.kill()
        self.process.wait(END_SECONDS_MAX)

    def stop(self) -> None:
        """SIGTERM, then its end; the exit code must be the expected one."""
        if self.is_alive:
            self.process.send_signal(signal.SIGCONT)  # a test may have stopped it
            self.process.terminate()
        try:
            code = self.process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS_MAX)
            raise AssertionError(f"{self.name} did not end:\n{self.tail}") from None
        if self.expected_exit is not None:
            assert code == self.expected_exit, f"{self.name} ended with {code}:\n{self.tail}"


@dataclass
class RunningWorker(Program):
    """A real `tasker-worker`."""


@dataclass
class RunningDaemon(Program):
    """A real `tasker-zmq daemon`; `endpoints` holds steps, results, commands and health."""

    database_url: str = ""
    core_id: str = ""
    endpoints: dict[str, str] = field(default_factory=dict)

    def await_ready(self) -> None:
        """Wait until it says where it listens and answers a HealthCheck."""

        def is_ready() -> bool:
            self.check()
            return f"core '{self.core_id}' is ready" in self.said

        eventually(is_ready, f"{self.name} is ready", seconds_max=READY_SECONDS_MAX)
        for line in self.said.splitlines():
            purpose, _, endpoint = line.partition(": ")
            if purpose in PURPOSES:
                self.endpoints[purpose] = endpoint
        with self.client() as client:
            assert client.ask("HealthCheck")["core_id"] == self.core_id

    def client(self) -> "Client":
        """A new client of this daemon; use it in a `with`."""
        return Client(self.endpoints["commands"])

    def rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """What SQL says about this daemon's database."""
        engine = create_engine(self.database_url, poolclass=NullPool)
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def await_sessions(self, number: int) -> None:
        """Wait until this many registered workers are known to it."""
        with self.client() as client:

            def has_them() -> bool:
                self.check()
                return bool(client.ask("HealthCheck")["sessions"] == number)

            eventually(has_them, f"{number} sessions are open")

    def await_task(self, task_id: int, state: str = "complete") -> dict[str, Any]:
        """Wait until a task is in this state; the task as GetTask tells it."""
        found: dict[str, Any] = {}
        with self.client() as client:

            def is_there() -> bool:
                self.check()
                found.update(client.ask("GetTask", {"task_id": task_id}))
                return bool(found["state"] == state)

            eventually(is_there, f"task {task_id} is {state}: {found}")
        return found


class Client:
    """A DEALER of a test's: proper commands by `ask`, anything at all by `send`."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def send_command(self, command_type: str, request: object, *, command_id: str) -> None:
        command = Command(
            command_type=command_type,
            command_id=command_id,
            payload=Payload(type=command_type, data=codec.raw(request)),
        )
        self.send(codec.encode(command))

    def receive(self, *, seconds_max: float = ANSWER_SECONDS_MAX) -> Command:
        """The next reply, whatever it answers."""
        assert self.socket.poll(int(seconds_max * 1_000)), "no reply came"
        return codec.decode_command(self.socket.recv_multipart()[-1], REPLY_LIMITS)

    def command(
        self, command_type: str, request: object | None = None, *, command_id: str | None = None
    ) -> Command:
        """The reply to a command, be it Success or Error; others' replies are passed over."""
        command_id = command_id or f"tests-{os.getpid()}-{next(_ids)}"
        self.send_command(command_type, request or {}, command_id=command_id)
        while (reply := self.receive()).correlation_id != command_id:
            pass
        return reply

    def ask(
        self, command_type: str, request: object | None = None, *, command_id: str | None = None
    ) -> Any:
        """The answer's data, as plain JSON values; a refusal fails the test."""
        reply = self.command(command_type, request, command_id=command_id)
        assert reply.payload.type != ERROR, bytes(reply.payload.data)
        return msgspec.json.decode(reply.payload.data)

    def refusal(
        self, command_type: str, request: object | None = None, *, command_id: str | None = None
    ) -> ErrorData:
        """Why a command is refused; an answer fails the test."""
        reply = self.command(command_type, request, command_id=command_id)
        assert reply.payload.type == ERROR, bytes(reply.payload.data)
        return codec.decode_data(reply.payload.data, ErrorData)

    def submit(
        self, full_name: str, context: Mapping[str, Any], *, identity: str | None = None
    ) -> int:
        """Create a task of `namespace/name@version`; its id."""
        namespace, _, rest = full_name.partition("/")
        name, _, version = rest.partition("@")
        request = {"namespace": namespace, "name": name, "version": version or None}
        wanted = {**request, "context": context, "identity": identity}
        return int(self.ask("InitializeTask", {"task_request": wanted})["task_id"])
