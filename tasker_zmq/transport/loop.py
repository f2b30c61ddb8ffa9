"""The io thread's loop: services all sockets always, hands frames up, takes frames down."""

import socket as sockets
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

import zmq

from tasker_zmq.transport.connections import Connection
from tasker_zmq.transport.cutting import cut_off
from tasker_zmq.transport.letters import Letters
from tasker_zmq.transport.sockets import DaemonSockets

DRAIN_MAX = 1_024  # messages from one socket before the others are looked at again
HANDFUL = 64
RETRY_MS = 20
SUBSCRIBE = 1

Frames = list[bytes]


class Receiver:
    """What the loop hands frames to; every method is called on the io thread and must not block."""

    def results(self, messages: Sequence[Frames]) -> None:
        """What the result socket had, oldest first."""
        raise NotImplementedError

    def command(self, frames: Frames) -> None:
        raise NotImplementedError

    def subscription(
        self, topic: bytes, *, subscribed: bool, connection: Connection | None
    ) -> bool:
        """Whether to grant it, or to take it back; `connection` is whose it is, if known."""
        raise NotImplementedError

    def narrowed(self, topic: bytes) -> bytes:
        """What is granted to whoever asks for `topic`: all of it, or less."""
        return topic

    def room(self) -> bool:
        """Whether more results and commands may be read."""
        raise NotImplementedError

    def unsent(self, topic: bytes) -> None:
        """A publication found its peer's queue full and is tried again."""

    def cut_off(self) -> None:
        """A subscriber sent something that is no subscription; its connection was ended."""


class IoLoop(threading.Thread):
    """Owns the sockets from `start` to `stop`; frames to send may come from any thread."""

    def __init__(self, sockets_: DaemonSockets, receiver: Receiver) -> None:
        super().__init__(name="tasker-io", daemon=True)
        self._sockets = sockets_
        self._receiver = receiver
        self._publications: deque[Frames] = deque()
        self._letters: deque[Frames] = deque()
        self._postponed: deque[Frames] = deque()
        self._outgoing = Letters(sockets_.commands)
        self._wake_in, self._wake_out = sockets.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._stopping = threading.Event()
        self._mistaken = False
        self._cut: Counter[bytes] = Counter()  # wishes of those whose end was not yet seen
        self.turns = 0
        self.failure: BaseException | None = None

    def publish(self, frames: list[Frames], letters: list[Frames]) -> None:
        """Send these; one wake-up for all of them."""
        self._publications.extend(frames)
        self._letters.extend(letters)
        self.wake()

    def wake(self) -> None:
        with suppress(OSError):  # full: it wakes up anyway; closed: there is nobody to wake
            self._wake_in.send(b"\0")

    def stop(self) -> None:
        self._stopping.set()
        self.wake()
        if self.is_alive():
            self.join()
        self._sockets.close()
        self._wake_in.close()
        self._wake_out.close()

    def run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self.failure = error
            raise

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_out, zmq.POLLIN)
        poller.register(self._sockets.steps, zmq.POLLIN)
        reading = False
        while not self._stopping.is_set():
            room = self._receiver.room()
            if room != reading:
                self._read_more(poller, wanted=room)
                reading = room
            if not room:
                self._stay_reachable()
            waiting = self._postponed or self._outgoing or not room
            ready = dict(poller.poll(RETRY_MS if waiting else None))
            self.turns += 1
            if self._wake_out.fileno() in ready:
                with suppress(BlockingIOError):
                    self._wake_out.recv(4_096)
            if self._sockets.steps in ready:
                self._read_subscriptions()
            if self._sockets.results in ready:
                self._read_results()
            if self._sockets.commands in ready:
                self._read_commands()
            self._send()
        self._send()

    def _read_more(self, poller: zmq.Poller, *, wanted: bool) -> None:
        for socket in (self._sockets.results, self._sockets.commands):
            if wanted:
                poller.register(socket, zmq.POLLIN)
            elif socket in poller:
                poller.unregister(socket)

    def _stay_reachable(self) -> None:
        """Let sockets that are not read greet new peers: one that nobody looks at is deaf."""
        for socket in (self._sockets.results, self._sockets.commands):
            socket.getsockopt(zmq.EVENTS)

    def _read_results(self) -> None:
        """By the handful: for each the engine is told once, and none waits long for the others."""
        for _ in range(DRAIN_MAX // HANDFUL):
            messages = list(self._read(self._sockets.results, HANDFUL))
            if messages:
                self._receiver.results(messages)
            if len(messages) < HANDFUL:
                return

    def _read_commands(self) -> None:
        for frames in self._read(self._sockets.commands, DRAIN_MAX):
            self._receiver.command(frames)

    def _read(self, socket: "zmq.Socket[bytes]", at_most: int) -> Iterator[Frames]:
        with suppress(zmq.Again):
            for _ in range(at_most):
                yield socket.recv_multipart(zmq.NOBLOCK)

    def _read_subscriptions(self) -> None:
        for _ in range(DRAIN_MAX):
            try:
                frame = self._sockets.steps.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._mistaken = False
                return
            self._read_subscription(frame)

    def _read_subscription(self, frame: zmq.Frame) -> None:
        """Grant, or refuse, what one subscriber asks for.

        With XPUB_MANUAL a grant goes to the peer of the message read last; but libzmq 4.3.5 takes
        the next subscriber's place for any other message, and is wrong until all have been read.
        Whoever sends such things is cut off, and so are those whose grant would go astray: they
        subscribe again when they have connected again.
        """
        said = frame.bytes
        if not said or said[0] > SUBSCRIBE or frame.more:
            self._mistaken = True
            if cut_off(frame, self._sockets.steps_endpoint):
                self._receiver.cut_off()
            return
        subscribed, topic = said[0] == SUBSCRIBE, said[1:]
        if self._mistaken and subscribed and cut_off(frame, self._sockets.steps_endpoint):
            self._cut[topic] += 1
        elif self._cut[topic] and not subscribed:
            self._cut -= Counter([topic])  # the end of a connection that was granted nothing
        elif self._receiver.subscription(
            topic, subscribed=subscribed, connection=Connection.of(frame)
        ):
            option = zmq.SUBSCRIBE if subscribed else zmq.UNSUBSCRIBE
            self._sockets.steps.setsockopt(option, self._receiver.narrowed(topic))

    def _send(self) -> None:
        self._outgoing.again()
        while self._letters:
            self._outgoing.send(self._letters.popleft())
        for frames_waiting in (self._postponed, self._publications):
            for _ in range(len(frames_waiting)):
                frames = frames_waiting.popleft()
                try:
                    self._sockets.steps.send(b"".join(frames), zmq.NOBLOCK)
                except zmq.Again:
                    self._receiver.unsent(frames[0])
                    self._postponed.append(frames)
