"""The daemon's sockets, every option set before bind; docs/PROTOCOL.md says why."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import zmq

from tasker_zmq.errors import UnreachableError
from tasker_zmq.transport.endpoints import EndpointLock, bind

SUBSCRIPTION_BYTES_MAX = 1_024
SLACK_BYTES = 64 << 10  # a little above the limit is read and refused by name; far above is cut off
TCP_MAXRT_MS = 30_000

Socket = zmq.Socket


@dataclass(frozen=True, kw_only=True)
class SocketLimits:
    """Bytes per frame and messages per queue."""

    result_bytes_max: int
    command_bytes_max: int
    step_queue_hwm: int
    result_queue_hwm: int


@dataclass(frozen=True, kw_only=True)
class SocketEndpoints:
    """Where to bind, and workers' result sockets to connect to."""

    steps: str
    results: str
    commands: str
    results_connect: tuple[str, ...] = ()

    @property
    def bound(self) -> tuple[str, str, str]:
        return self.steps, self.results, self.commands


class DaemonSockets:
    """XPUB for steps, SUB for results, ROUTER for commands: used by one thread only."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoints: SocketEndpoints,
        *,
        topics: Sequence[bytes],
        limits: SocketLimits,
    ) -> None:
        self._open: list[Socket[bytes]] = []
        self._locks: list[EndpointLock] = []
        try:
            for endpoint in endpoints.bound:
                self._locks.append(EndpointLock(endpoint))
            self.steps = self._publisher(context, limits)
            self.results = self._subscriber(context, limits, topics)
            self.commands = self._router(context, limits)
            self.steps_endpoint = bind(self.steps, endpoints.steps, purpose="steps")
            self.results_endpoint = bind(self.results, endpoints.results, purpose="results")
            self.commands_endpoint = bind(self.commands, endpoints.commands, purpose="commands")
            for endpoint in endpoints.results_connect:
                self._connect(endpoint)
        except BaseException:
            self.close()
            raise

    def _socket(self, context: "zmq.Context[zmq.Socket[bytes]]", kind: int) -> "Socket[bytes]":
        socket = context.socket(kind)
        self._open.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
        return socket

    def _publisher(
        self, context: "zmq.Context[zmq.Socket[bytes]]", limits: SocketLimits
    ) -> "Socket[bytes]":
        socket = self._socket(context, zmq.XPUB)
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.SNDHWM, limits.step_queue_hwm)
        socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES_MAX)
        socket.setsockopt(zmq.TCP_MAXRT, TCP_MAXRT_MS)
        return socket

    def _subscriber(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        limits: SocketLimits,
        topics: Sequence[bytes],
    ) -> "Socket[bytes]":
        socket = self._socket(context, zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, limits.result_queue_hwm)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.result_bytes_max + SLACK_BYTES)
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        return socket

    def _router(
        self, context: "zmq.Context[zmq.Socket[bytes]]", limits: SocketLimits
    ) -> "Socket[bytes]":
        socket = self._socket(context, zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a reply to nobody is an error, not silence
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.command_bytes_max + SLACK_BYTES)
        return socket

    def _connect(self, endpoint: str) -> None:
        try:
            self.results.connect(endpoint)
        except zmq.ZMQError as error:
            raise UnreachableError(
                f"'{endpoint}' is no address to connect to ({error}); mend "
                "endpoints.results_connect, such as tcp://10.0.0.7:5556"
            ) from None

    def close(self) -> None:
        for socket in self._open:
            with suppress(zmq.ZMQError):
                socket.close(linger=0)
        for lock in self._locks:
            lock.release()
