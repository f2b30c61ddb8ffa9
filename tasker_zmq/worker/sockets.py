"""The worker's three sockets. Only the thread of the worker's loop touches them.

Options are set before connecting, LINGER is 0 (the outbox owns what was not recorded), and TCP
keepalive stands in for ZMTP heartbeats. Source: docs/PROTOCOL.md, section "Sockets".
"""

import contextlib
from collections.abc import Iterator
from typing import Final

import zmq

from tasker_zmq.protocol import topics

RECONNECT_MS: Final = 50
RECONNECT_MS_MAX: Final = 200  # a restarted daemon gets work done only once we are back
READABLE: Final = int(zmq.POLLIN)
SEND_FRAMES_MAX: Final = 10_000  # a fuse: the outbox keeps what does not fit


def _frames(socket: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    """The messages that have arrived.

    Behind a lone one it is asked for more: to try in vain costs more than a message, an exception.
    """
    with contextlib.suppress(zmq.Again):
        yield _message(socket)
        if int(socket.get(zmq.EVENTS)) & READABLE:
            while True:
                yield _message(socket)


def _message(socket: zmq.Socket[bytes]) -> list[bytes]:
    """One message, by its frames, which know whether there is another; raises zmq.Again."""
    frame = socket.recv(zmq.DONTWAIT, copy=False)
    found = [frame.bytes]
    while frame.more:
        frame = socket.recv(zmq.DONTWAIT, copy=False)
        found.append(frame.bytes)
    return found


def _prepare(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, 10)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.set(zmq.TCP_KEEPALIVE_CNT, 3)


class CommandSocket:
    """DEALER to the daemon. IMMEDIATE: nothing is put in line for a daemon that is not there."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], url: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        _prepare(self.socket)
        self.socket.set(zmq.IMMEDIATE, 1)
        self.socket.connect(url)

    @property
    def writable(self) -> bool:
        """Whether there is a connection that takes something."""
        return bool(self.socket.poll(0, zmq.POLLOUT))

    def send(self, frame: bytes) -> bool:
        """Whether the daemon's connection took it."""
        try:
            self.socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def received(self) -> Iterator[bytes]:
        """The commands that have arrived; a REQ-shaped peer's empty frame is skipped."""
        for frames in _frames(self.socket):
            yield frames[-1]

    def close(self) -> None:
        self.socket.close()


class DataSockets:
    """SUB for one session's batches and XPUB for its results."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        steps: str,
        results: str,
        topic: bytes,
    ) -> None:
        self._wanted: set[bytes] = set()
        self._answers: dict[str, bool] = {}  # of `wanted`, until a subscription comes or goes
        self._topic = topic
        self.results = context.socket(zmq.XPUB)
        self.steps = context.socket(zmq.SUB)
        try:
            _prepare(self.results)
            self.results.set(zmq.IMMEDIATE, 1)
            self.results.set(zmq.SNDHWM, SEND_FRAMES_MAX)
            self.results.set(zmq.XPUB_NODROP, 1)
            self.results.connect(results)
            _prepare(self.steps)
            self.steps.set(zmq.RCVHWM, 0)  # bounded by the session's credit
            self.steps.set(zmq.SUBSCRIBE, topic)
            self.steps.connect(steps)
        except zmq.ZMQError:
            self.close()
            raise

    def read_subscriptions(self) -> bool:
        """Take note of who wants what; whether some topic is wanted now and was not."""
        news = False
        for frame in map(b"".join, _frames(self.results)):
            self._answers.clear()
            if frame[:1] == b"\x01":
                news = news or frame[1:] not in self._wanted
                self._wanted.add(frame[1:])
            elif frame[:1] == b"\x00":
                self._wanted.discard(frame[1:])
        return news

    def wanted(self, topic: str) -> bool:
        """Whether somebody has subscribed to `topic`."""
        answer = self._answers.get(topic)
        if answer is None:
            name = topics.subscription(topic)
            answer = any(name.startswith(prefix) for prefix in self._wanted)
            self._answers[topic] = answer
        return answer

    def publish(self, topic: str, frame: bytes) -> bool:
        """Whether it left: False while nobody wants it, or while the connection is full."""
        if not self.wanted(topic):
            return False
        try:
            self.results.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def batches(self) -> Iterator[bytes]:
        """The frames that have arrived."""
        for frames in _frames(self.steps):
            yield frames[0] if len(frames) == 1 else frames[0].rstrip(b" ") + b" " + frames[1]

    def refuse_more(self) -> None:
        """Take the subscription back: the daemon sees it and sends no further batch."""
        self.steps.set(zmq.UNSUBSCRIBE, self._topic)

    def accept_more(self) -> None:
        """Subscribe again, after `refuse_more`."""
        self.steps.set(zmq.SUBSCRIBE, self._topic)

    def close(self) -> None:
        self.results.close()
        self.steps.close()
