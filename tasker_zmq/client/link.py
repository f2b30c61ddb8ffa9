"""One connection to one or several daemons: any thread asks, one thread owns the socket.

An unanswered command is sent again under the same id, over whatever connection there is then: the
daemon carries a command out once, however often it comes. Source: docs/PROTOCOL.md, "Commands".
"""

import heapq
import itertools
import socket as sockets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import zmq

from tasker_zmq.client.resending import USUAL, Sending
from tasker_zmq.clock import Clock, IdMaker, SystemClock, system_dice
from tasker_zmq.errors import NotFoundError, ProtocolError, RefusedError, UnreachableError
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
from tasker_zmq.protocol.envelope import RetryPolicy, WorkerRouting
from tasker_zmq.protocol.limits import WireLimits

ANSWER_SECONDS_MAX: Final = 10.0
RECONNECT_MS: Final = 50
RECONNECT_MS_MAX: Final = 1_000
LOOK_FOR_DAEMON_SECONDS: Final = 0.05
CORES_FOLLOWED_MAX: Final = 64
REPLY_BYTES_MAX: Final = 64 << 20
NESTING_MAX: Final = 128  # a reply wraps what a command may hold
NOT_FOUND: Final = "not_found"
ELSEWHERE: Final = "elsewhere"
_LIMITS: Final = WireLimits(command_bytes_max=REPLY_BYTES_MAX, nesting_max=NESTING_MAX)

Answer = Future[msgspec.Raw]


@dataclass
class _Question:
    """A command that waits for its answer."""

    sending: Sending
    answer: Answer
    timeout_seconds: float
    connect_until: float
    elsewhere: str | None = None  # the endpoint of the core that it is for
    road: int = 0  # what was planned for an earlier one is not done any more

    @property
    def command_id(self) -> str:
        return self.sending.command.command_id


@dataclass(order=True)
class _Due:
    at: float
    number: int
    action: Callable[[], None] = field(compare=False)


class Link:
    """Asks over a DEALER; to be closed. With several endpoints, daemons take turns.

    `connect_seconds_max` is how long a command waits for somebody to be there at all; None: as long
    as for its answer. `retry_policy` says how an unanswered command is sent again.
    """

    def __init__(
        self,
        *endpoints: str,
        source: Peer,
        connect_seconds_max: float | None = None,
        retry_policy: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.endpoints = endpoints
        self._source = source
        self._connect_seconds_max = connect_seconds_max
        self._retry_policy = retry_policy
        self._clock = clock or SystemClock()
        self._ids = IdMaker(self._clock, system_dice())
        self._numbers = itertools.count()
        self._orders: deque[Callable[[], None]] = deque()
        self._due: list[_Due] = []
        self._questions: dict[str, _Question] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._connect(endpoints)
        self._followed: dict[str, zmq.Socket[bytes]] = {}  # by endpoint, of cores that were named
        self._poller = zmq.Poller()
        self._wake, self._woken = sockets.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="tasker-client", daemon=True)
        self._thread.start()

    def _connect(self, endpoints: Sequence[str]) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, REPLY_BYTES_MAX)
        socket.set(zmq.IMMEDIATE, 1)  # nothing is put in line for a daemon that is not there
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        for endpoint in endpoints:
            try:
                socket.connect(endpoint)
            except zmq.ZMQError as error:
                socket.close(linger=0)
                if endpoints is self.endpoints:
                    self._context.term()
                raise UnreachableError(
                    f"'{endpoint}' is no address to connect to ({error}); mend "
                    "endpoints.commands, such as tcp://127.0.0.1:5557"
                ) from None
        return socket

    def ask(
        self,
        command_type: str,
        request: object,
        *,
        timeout_seconds: float = ANSWER_SECONDS_MAX,
        core_id: str | None = None,
        worker: str | None = None,
    ) -> Answer:
        """Send a command; its answer's data, for `codec.decode_data`.

        With `core_id` it is for that core alone, and found there, whichever one is asked first;
        with `worker` what it leads to is for the worker of this name.
        The future raises NotFoundError or RefusedError with the daemon's words, UnreachableError
        for silence.
        """
        command = Command(
            command_type=command_type,
            command_id=self._ids.uuid7(),
            metadata=CommandMetadata(
                timestamp=self._clock.now().isoformat(),
                source=self._source,
                target=None if core_id is None else Peer(type="core", id=core_id),
                retry_policy=codec.raw(self._retry_policy),
            ),
            worker_routing=(
                NULL if worker is None else codec.raw(WorkerRouting(target_worker_id=worker))
            ),
            payload=Payload(type=command_type, data=codec.raw(request)),
        )
        now = self._clock.monotonic()
        question = _Question(
            sending=Sending(command, self._retry_policy or USUAL, now + timeout_seconds),
            answer=Future(),
            timeout_seconds=timeout_seconds,
            connect_until=now + (self._connect_seconds_max or timeout_seconds),
        )
        self.order(lambda: self._begin(question))
        return question.answer

    def order(self, action: Callable[[], None]) -> None:
        """Have the link's thread do this; raises UnreachableError once it is closed."""
        with self._lock:
            if self._closed:
                raise UnreachableError("the client is closed")
            self._orders.append(action)
        with suppress(OSError):  # a full pipe wakes as well
            self._wake.send(b"!")

    def now(self) -> float:
        """Seconds, on the clock that `later` counts on."""
        return self._clock.monotonic()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have the link's thread do this after a while; on that thread only."""
        at = self._clock.monotonic() + seconds
        heapq.heappush(self._due, _Due(at, next(self._numbers), action))

    def close(self) -> None:
        """End the thread; whoever waits for an answer gets UnreachableError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with suppress(OSError):
            self._wake.send(b"!")
        self._thread.join()

    def _run(self) -> None:
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._woken.fileno(), zmq.POLLIN)
        while not self._closed:
            self._poller.poll(self._patience_ms())
            with suppress(BlockingIOError):
                self._woken.recv(4_096)
            while self._orders:
                self._orders.popleft()()
            for socket in (self._socket, *list(self._followed.values())):
                self._receive(socket)
            while self._due and self._due[0].at <= self._clock.monotonic():
                heapq.heappop(self._due).action()
        while self._orders:  # what was asked for before the end is refused in its turn
            self._orders.popleft()()
        for question in list(self._questions.values()):
            self._fail(question, UnreachableError("the client was closed before the answer came"))
        for socket in (self._socket, *self._followed.values()):
            socket.close(linger=0)
        self._context.term()
        self._wake.close()
        self._woken.close()

    def _patience_ms(self) -> int | None:
        if not self._due:
            return None
        return round(max(0.0, self._due[0].at - self._clock.monotonic()) * 1_000 + 0.5)

    def _begin(self, question: _Question) -> None:
        self._questions[question.command_id] = question
        self._send(question, question.road)

    def _send(self, question: _Question, road: int) -> None:
        """Send it, once more if need be, and see to it that it is looked at again."""
        if question.command_id not in self._questions or road != question.road:
            return  # answered meanwhile, or sent elsewhere
        now, sending = self._clock.monotonic(), question.sending
        if now >= sending.until or (not sending.sent and now >= question.connect_until):
            self._fail(question, self._silence(question))
            return
        limit = sending.until if sending.sent else question.connect_until
        wait: float | None = LOOK_FOR_DAEMON_SECONDS
        if not sending.sent or sending.wait() is not None:
            with suppress(zmq.Again):
                self._socket_of(question).send(sending.frame(now), zmq.DONTWAIT)
                sending.sent += 1
                limit = sending.until
                wait = sending.wait()
        else:
            wait = None  # it was sent as often as it may be
        seconds = limit - now if wait is None else min(wait, limit - now)
        self.later(max(0.0, seconds), lambda: self._send(question, road))

    def _socket_of(self, question: _Question) -> "zmq.Socket[bytes]":
        return self._followed.get(question.elsewhere or "", self._socket)

    def _silence(self, question: _Question) -> UnreachableError:
        at = question.elsewhere or ", ".join(self.endpoints)
        if question.sending.sent:
            return UnreachableError(
                f"the daemon at {at} took the command, but did not answer within "
                f"{question.timeout_seconds:g} s; it may still carry it out: see "
                "`tasker-zmq health`"
            )
        return UnreachableError(
            f"no daemon listens at {at}; start one with `tasker-zmq daemon`, or name another with "
            "TASKER_ENDPOINTS_COMMANDS"
        )

    def _fail(self, question: _Question, error: Exception) -> None:
        del self._questions[question.command_id]
        if question.answer.set_running_or_notify_cancel():
            question.answer.set_exception(error)

    def _receive(self, socket: "zmq.Socket[bytes]") -> None:
        while True:
            try:
                frame = socket.recv_multipart(zmq.DONTWAIT)[-1]
            except zmq.Again:
                return
            try:
                self._settle(codec.decode_command(frame, _LIMITS))
            except ProtocolError:
                continue  # no daemon of ours speaks like this: the question stays open

    def _settle(self, reply: Command) -> None:
        """An answer that comes late, or twice, finds no question."""
        question = self._questions.get(reply.correlation_id or "")
        if question is None:
            return
        if reply.payload.type == ERROR:
            refused = codec.decode_data(reply.payload.data, ErrorData)
            if not self._follow(question, refused):
                self._fail(question, refusal_of(refused))
            return
        del self._questions[question.command_id]
        if question.answer.set_running_or_notify_cancel():
            question.answer.set_result(reply.payload.data)

    def _follow(self, question: _Question, refused: ErrorData) -> bool:
        """Send a command that another core is to carry out there, once, under the same id."""
        there = refused.core
        if refused.code != ELSEWHERE or there is msgspec.UNSET or question.elsewhere is not None:
            return False
        if there.commands not in self._followed:
            if len(self._followed) >= CORES_FOLLOWED_MAX:
                return False
            try:
                socket = self._connect((there.commands,))
            except UnreachableError:
                return False  # the refusal says more than that this is no address
            self._followed[there.commands] = socket
            self._poller.register(socket, zmq.POLLIN)
        question.elsewhere = there.commands
        question.road += 1
        question.sending.sent = 0
        question.connect_until = question.sending.until
        self._send(question, question.road)
        return True


def refusal_of(refused: ErrorData) -> NotFoundError | RefusedError:
    error = (NotFoundError if refused.code == NOT_FOUND else RefusedError)(refused.message)
    if refused.hint:
        error.add_note(refused.hint)
    return error
