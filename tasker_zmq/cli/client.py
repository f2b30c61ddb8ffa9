"""Asks a daemon: commands over a DEALER socket, health over REQ."""

import getpass
import os
import socket as sockets
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import zmq

from tasker_zmq.client.link import (
    ANSWER_SECONDS_MAX,
    ELSEWHERE,
    NESTING_MAX,
    REPLY_BYTES_MAX,
    refusal_of,
)
from tasker_zmq.client.resending import USUAL, Sending
from tasker_zmq.clock import IdMaker, SystemClock, system_dice
from tasker_zmq.errors import UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ERROR,
    NULL,
    Command,
    CommandMetadata,
    ErrorData,
    Payload,
    Peer,
)
from tasker_zmq.protocol.envelope import WorkerRouting
from tasker_zmq.protocol.limits import WireLimits

CONNECT_SECONDS_MAX: Final = 2.0
_LIMITS: Final = WireLimits(command_bytes_max=REPLY_BYTES_MAX, nesting_max=NESTING_MAX)


class CommandClient:
    """One connection to a daemon's commands endpoint; to be used by one thread, in a `with`."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._clock = SystemClock()
        self._ids = IdMaker(self._clock, system_dice())
        self._source = cli_source()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _socket(self._context, zmq.DEALER, endpoint, purpose="commands")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def ask(
        self,
        command_type: str,
        request: object,
        *,
        timeout_seconds: float = ANSWER_SECONDS_MAX,
        worker_routing: WorkerRouting | None = None,
    ) -> msgspec.Raw:
        """Send `request` and wait for its answer's data, for `codec.decode_data`.

        Raises NotFoundError or RefusedError with the daemon's words, UnreachableError for silence.
        """
        command = Command(
            command_type=command_type,
            command_id=self._ids.uuid7(),
            metadata=CommandMetadata(
                timestamp=self._clock.now().isoformat(),
                source=self._source,
            ),
            worker_routing=NULL if worker_routing is None else codec.raw(worker_routing),
            payload=Payload(type=command_type, data=codec.raw(request)),
        )
        return self._exchange(command, timeout_seconds)

    def repeat(
        self, command: Command, *, new_id: bool, timeout_seconds: float = ANSWER_SECONDS_MAX
    ) -> tuple[str, msgspec.Raw]:
        """Send a former command once more, in this caller's name; its id, and the answer's data."""
        metadata = msgspec.structs.replace(
            command.metadata, timestamp=self._clock.now().isoformat(), source=self._source
        )
        repeated = msgspec.structs.replace(
            command,
            command_id=self._ids.uuid7() if new_id else command.command_id,
            metadata=metadata,
        )
        return repeated.command_id, self._exchange(repeated, timeout_seconds)

    def _exchange(self, command: Command, timeout_seconds: float) -> msgspec.Raw:
        reply = self._carry(command, timeout_seconds)
        if reply.payload.type == ERROR:
            refused = codec.decode_data(reply.payload.data, ErrorData)
            if refused.code != ELSEWHERE or refused.core is msgspec.UNSET:
                raise refusal_of(refused)
            with CommandClient(refused.core.commands) as there:  # once: where it is said to be
                reply = there._carry(command, timeout_seconds)
            if reply.payload.type == ERROR:
                raise refusal_of(codec.decode_data(reply.payload.data, ErrorData))
        return reply.payload.data

    def _carry(self, command: Command, timeout_seconds: float) -> Command:
        """Send it, again and again by the usual policy, until its reply comes."""
        now = self._clock.monotonic()
        sending = Sending(command, USUAL, until=now + timeout_seconds)
        _send(self._socket, sending.frame(now), self._endpoint, purpose="commands")
        sending.sent = 1
        wait = sending.wait() or timeout_seconds
        while (reply := self._receive(command.command_id, min(sending.until, now + wait))) is None:
            now = self._clock.monotonic()
            if now >= sending.until:
                break
            with suppress(zmq.Again):
                self._socket.send(sending.frame(now), zmq.DONTWAIT)
                sending.sent += 1
            wait = sending.wait() or timeout_seconds
        if reply is not None:
            return reply
        raise UnreachableError(
            f"the daemon at {self._endpoint} took the command, but did not answer within "
            f"{timeout_seconds:g} s; it may still carry it out: see `tasker-zmq health`"
        )

    def _receive(self, command_id: str, until: float) -> Command | None:
        """The reply to this very command; one that comes late to an earlier one is passed over."""
        while (left := until - self._clock.monotonic()) > 0:
            if not self._socket.poll(max(1, int(left * 1_000))):
                break
            reply = codec.decode_command(self._socket.recv_multipart()[-1], _LIMITS)
            if reply.correlation_id == command_id:
                return reply
        return None


def ask_health(endpoint: str, *, timeout_seconds: float) -> dict[str, Any]:
    """What the daemon's health socket says; UnreachableError for silence."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = _socket(context, zmq.REQ, endpoint, purpose="health")
    try:
        _send(socket, b"{}", endpoint, purpose="health")
        if not socket.poll(int(timeout_seconds * 1_000)):
            raise UnreachableError(
                f"something listens at {endpoint}, but its health socket did not answer within "
                f"{timeout_seconds:g} s; restart the daemon, or mend endpoints.health"
            )
        return _object(socket.recv_multipart()[-1], endpoint)
    finally:
        socket.close(linger=0)
        context.term()


def _object(frame: bytes, endpoint: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(frame, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreachableError(
            f"what answers at {endpoint} is no daemon of ours ({error}); mend endpoints.health"
        ) from None


def _socket(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, *, purpose: str
) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, REPLY_BYTES_MAX)
    # With IMMEDIATE nothing is queued for a peer that is not there, so that sending tells it.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.SNDTIMEO, int(CONNECT_SECONDS_MAX * 1_000))
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        context.term()
        raise UnreachableError(
            f"'{endpoint}' is no address to connect to ({error}); mend endpoints.{purpose}, "
            "such as tcp://127.0.0.1:5557"
        ) from None
    return socket


def _send(socket: "zmq.Socket[bytes]", frame: bytes, endpoint: str, *, purpose: str) -> None:
    try:
        socket.send(frame)
    except zmq.Again:
        raise UnreachableError(
            f"no daemon listens at {endpoint}; start one with `tasker-zmq daemon`, or name "
            f"another with TASKER_ENDPOINTS_{purpose.upper()}"
        ) from None


def cli_source() -> Peer:
    """Who asks: the person at this machine."""
    return Peer(type="cli", id=f"{_login()}@{sockets.gethostname()}")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return str(os.getuid())
