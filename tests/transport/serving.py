"""An io loop on real sockets with a receiver of the tests', and peers that talk to it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import zmq

from tasker_zmq.clock import SystemClock
from tasker_zmq.transport.connections import Connection
from tasker_zmq.transport.loop import Frames, IoLoop, Receiver
from tasker_zmq.transport.sockets import DaemonSockets, SocketEndpoints, SocketLimits

WAIT_SECONDS = 20.0  # a bound, not an expectation: what is awaited comes in milliseconds
PAUSE_SECONDS = 0.01
QUIET_TURNS = 5
RESULT_TOPICS = (b"partial_result ", b"batch_completion ")
LIMITS = SocketLimits(
    result_bytes_max=1_000, command_bytes_max=1_000, step_queue_hwm=100, result_queue_hwm=100
)

Socket = zmq.Socket
Context = zmq.Context


def eventually(fact: Callable[[], bool], what: str) -> None:
    """Wait until `fact` holds."""
    clock, pause = SystemClock(), threading.Event()
    until = clock.monotonic() + WAIT_SECONDS
    while not fact():
        assert clock.monotonic() < until, f"not within {WAIT_SECONDS:g} s: {what}"
        pause.wait(PAUSE_SECONDS)


class Notebook(Receiver):
    """Notes what the loop hands up; grants what stands in `granted`."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[Frames] = SimpleQueue()
        self.commands: SimpleQueue[Frames] = SimpleQueue()
        self.subscriptions: SimpleQueue[tuple[bytes, bool]] = SimpleQueue()
        self.granted: frozenset[bytes] = frozenset()
        self.has_room = True
        self.postponed = 0
        self.cuts = 0

    def results(self, messages: Sequence[Frames]) -> None:
        for frames in messages:
            self.heard.put(frames)

    def command(self, frames: Frames) -> None:
        self.commands.put(frames)

    def subscription(
        self, topic: bytes, *, subscribed: bool, connection: Connection | None
    ) -> bool:
        self.subscriptions.put((topic, subscribed))
        return topic in self.granted

    def room(self) -> bool:
        return self.has_room

    def unsent(self, topic: bytes) -> None:
        self.postponed += 1

    def cut_off(self) -> None:
        self.cuts += 1


@dataclass
class Serving:
    """A loop that runs, what it noted, and how to talk to it."""

    context: "Context[Socket[bytes]]"
    sockets: DaemonSockets
    notebook: Notebook = field(default_factory=Notebook)
    receiver: Receiver | None = None  # the notebook unless another is given
    peers: "list[Socket[bytes]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = IoLoop(self.sockets, self.receiver or self.notebook)

    def start(self) -> None:
        self.loop.start()

    def close(self) -> None:
        for each in self.peers:
            each.close(linger=0)
        self.loop.stop()

    def peer(self, kind: int, endpoint: str, **options: int) -> "Socket[bytes]":
        """A socket of somebody else's, connected to one of ours and closed after the test."""
        socket = self.context.socket(kind)
        self.peers.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(endpoint)
        return socket

    def publisher(self) -> "Socket[bytes]":
        """One that publishes results and is listened to already."""
        socket = self.peer(zmq.XPUB, self.sockets.results_endpoint)
        heard = {receive(socket)[0] for _ in RESULT_TOPICS}
        assert heard == {b"\x01" + topic for topic in RESULT_TOPICS}
        return socket

    def subscriber(self, *topics: bytes) -> "Socket[bytes]":
        """One that filters nothing itself: what it receives is what it was sent."""
        socket = self.peer(zmq.XSUB, self.sockets.steps_endpoint)
        for topic in topics:
            socket.send(b"\x01" + topic)
        return socket

    def subscribed(self, *topics: bytes) -> "Socket[bytes]":
        """As `subscriber`, once the loop has ruled on each of the topics."""
        socket = self.subscriber(*topics)
        for topic in topics:
            assert self.notebook.subscriptions.get(timeout=WAIT_SECONDS) == (topic, True)
        return socket

    def publish(self, *frames: bytes) -> None:
        self.loop.publish([list(frames)], [])

    def write(self, *frames: bytes) -> None:
        """Send a letter."""
        self.loop.publish([], [list(frames)])

    def quiet_turns(self) -> None:
        """Let the loop look at all its sockets several times."""
        for _ in range(QUIET_TURNS):
            turns = self.loop.turns
            self.loop.wake()
            eventually(lambda before=turns: self.loop.turns > before, "the loop turns")  # type: ignore[misc]


def sockets_at(
    context: "Context[Socket[bytes]]",
    endpoints: SocketEndpoints,
    *,
    limits: SocketLimits = LIMITS,
) -> DaemonSockets:
    """The daemon's sockets, as a daemon would make them."""
    return DaemonSockets(context, endpoints, topics=RESULT_TOPICS, limits=limits)


def receive(socket: "Socket[bytes]") -> Frames:
    assert socket.poll(int(WAIT_SECONDS * 1_000)), "nothing came"
    return socket.recv_multipart()


def received(socket: "Socket[bytes]") -> list[bytes]:
    """The single frames that have arrived by now."""
    found = []
    while socket.poll(0):
        found.append(socket.recv())
    return found


def got(queue_: "SimpleQueue[Any]") -> Any:
    return queue_.get(timeout=WAIT_SECONDS)
