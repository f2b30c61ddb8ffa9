"""A context that must end, endpoints of all three kinds, and an io loop on them."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import zmq

from tasker_zmq.transport.loop import Receiver
from tasker_zmq.transport.sockets import SocketEndpoints, SocketLimits
from tests.transport.serving import LIMITS, WAIT_SECONDS, Serving, sockets_at

ANY_PORT = "tcp://127.0.0.1:*"
_numbers = count(1)

Serve = Callable[..., Serving]


@pytest.fixture
def zmq_context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    """Ends within a bounded time, which it does only if every socket was closed."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    ender = threading.Thread(target=context.term, daemon=True)
    ender.start()
    ender.join(WAIT_SECONDS)
    assert not ender.is_alive(), "a socket was left open"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for the names of Unix sockets are."""
    with tempfile.TemporaryDirectory(prefix="tz-") as name:
        yield Path(name)


@pytest.fixture(params=["tcp", "ipc", "inproc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_endpoints(folder: Path) -> Callable[[str], SocketEndpoints]:
    """Three fresh endpoints of one kind."""

    def make(transport: str) -> SocketEndpoints:
        if transport == "tcp":
            return SocketEndpoints(steps=ANY_PORT, results=ANY_PORT, commands=ANY_PORT)
        number = next(_numbers)
        start = f"ipc://{folder}/{number}" if transport == "ipc" else f"inproc://{number}"
        return SocketEndpoints(
            steps=f"{start}-steps", results=f"{start}-results", commands=f"{start}-commands"
        )

    return make


@pytest.fixture
def serve(
    zmq_context: "zmq.Context[zmq.Socket[bytes]]",
    make_endpoints: Callable[[str], SocketEndpoints],
) -> Iterator[Serve]:
    """Starts an io loop on fresh endpoints; it is stopped, and must not have failed."""
    running: list[Serving] = []

    def start(
        transport: str = "ipc",
        *,
        limits: SocketLimits = LIMITS,
        granted: tuple[bytes, ...] = (),
        at_once: bool = True,
        receiver: Receiver | None = None,
    ) -> Serving:
        serving = Serving(
            zmq_context,
            sockets_at(zmq_context, make_endpoints(transport), limits=limits),
            receiver=receiver,
        )
        running.append(serving)
        serving.notebook.granted = frozenset(granted)
        if at_once:
            serving.start()
        return serving

    yield start
    for each in running:
        each.close()
    assert [each.loop.failure for each in running] == [None] * len(running)
