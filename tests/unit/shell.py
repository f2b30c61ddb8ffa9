"""The CLI as a person at a shell meets it, and a daemon of the tests' own to talk to."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import click
import msgspec
import zmq
from click.testing import CliRunner, Result

from tasker_zmq.cli.failures import run
from tasker_zmq.cli.main import tasker_zmq
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ERROR, SUCCESS, Command, ErrorData, Payload
from tasker_zmq.protocol.limits import WireLimits

POLL_MS = 20
Answer = Callable[[Command], object]


def tasker(*arguments: str, given: str | bytes | None = None) -> Result:
    """Run it with everything that `main` does, inside this process; `given` is standard input."""

    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("passed", nargs=-1, type=click.UNPROCESSED)
    def shell(passed: tuple[str, ...]) -> None:
        sys.exit(run(tasker_zmq, passed, program="tasker-zmq"))

    return CliRunner().invoke(shell, list(arguments), input=given)


class OwnDaemon:
    """A ROUTER that answers each command by `answer`; an ErrorData refuses, None is silence."""

    def __init__(self, answer: Answer, *, kind: int = zmq.ROUTER) -> None:
        self._answer = answer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.asked: list[Command] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()
        self._context.term()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(POLL_MS):
                *route, frame = self._socket.recv_multipart()
                reply = self._reply(frame) if route else self._answer_plainly()
                if reply is not None:
                    self._socket.send_multipart([*route, reply])

    def _answer_plainly(self) -> bytes:
        """A REP socket has no route: its answers are bytes or JSON."""
        answer = self._answer(Command(command_type="", command_id="", payload=Payload(type="")))
        return answer if isinstance(answer, bytes) else codec.encode(answer)

    def _reply(self, frame: bytes) -> bytes | None:
        command = codec.decode_command(frame, WireLimits())
        self.asked.append(command)
        answer = self._answer(command)
        if answer is None or isinstance(answer, bytes):
            return answer
        refused = isinstance(answer, ErrorData)
        payload = Payload(type=ERROR if refused else SUCCESS, data=codec.raw(answer))
        reply = Command(
            command_type="Reply",
            command_id="r",
            correlation_id=command.command_id,
            payload=payload,
        )
        return codec.encode(reply)


def asked_for(command: Command, kind: type[Any]) -> Any:
    """What a command carries, as the struct of its type."""
    return msgspec.json.decode(command.payload.data, type=kind)
