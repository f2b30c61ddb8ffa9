"""Binding: the real endpoint is told, a path cannot be stolen, a refusal says what to do."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from tasker_zmq.errors import UnreachableError
from tasker_zmq.transport.endpoints import EndpointLock
from tasker_zmq.transport.sockets import SocketEndpoints
from tests.transport.conftest import Serve
from tests.transport.serving import WAIT_SECONDS, got, receive, sockets_at

Context = zmq.Context
MakeEndpoints = Callable[[str], SocketEndpoints]


def test_a_wildcard_port_is_told_as_the_port_it_got(serve: Serve) -> None:
    sockets = serve("tcp").sockets
    found = [sockets.steps_endpoint, sockets.results_endpoint, sockets.commands_endpoint]
    ports = {each.removeprefix("tcp://127.0.0.1:") for each in found}
    assert len(ports) == 3
    assert all(port.isdigit() and int(port) > 0 for port in ports)


def test_a_port_in_use_is_refused_with_what_to_do(
    zmq_context: "Context[zmq.Socket[bytes]]", serve: Serve, make_endpoints: MakeEndpoints
) -> None:
    taken = serve("tcp").sockets.results_endpoint
    with pytest.raises(UnreachableError, match=r"cannot bind results to .*endpoints\.results"):
        sockets_at(
            zmq_context,
            SocketEndpoints(steps="tcp://127.0.0.1:*", results=taken, commands="tcp://127.0.0.1:*"),
        )


def test_a_live_ipc_path_cannot_be_stolen(
    zmq_context: "Context[zmq.Socket[bytes]]", serve: Serve, folder: Path
) -> None:
    serving = serve("ipc")
    mine = serving.sockets.commands_endpoint
    others = SocketEndpoints(steps=f"ipc://{folder}/s", results=f"ipc://{folder}/r", commands=mine)
    with pytest.raises(UnreachableError, match="another process has it"):
        sockets_at(zmq_context, others)
    dealer = serving.peer(zmq.DEALER, mine)
    dealer.send(b"still yours?")
    assert got(serving.notebook.commands)[1] == b"still yours?"


def test_who_is_refused_one_endpoint_keeps_none_of_the_others(
    zmq_context: "Context[zmq.Socket[bytes]]", serve: Serve, folder: Path
) -> None:
    taken = serve("ipc").sockets.commands_endpoint
    free = SocketEndpoints(
        steps=f"ipc://{folder}/s", results=f"ipc://{folder}/r", commands=f"ipc://{folder}/c"
    )
    for commands in (taken, "ipc:///dev/null/no-folder", "nonsense"):
        with pytest.raises(UnreachableError):
            sockets_at(
                zmq_context,
                SocketEndpoints(steps=free.steps, results=free.results, commands=commands),
            )
    sockets_at(zmq_context, free).close()


def test_a_path_is_free_again_after_closing_and_after_a_crash(
    zmq_context: "Context[zmq.Socket[bytes]]", folder: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(f"{folder}/s")  # closing it leaves the file, as a killed process does
    (folder / "s.lock").touch()
    endpoints = SocketEndpoints(
        steps=f"ipc://{folder}/s", results=f"ipc://{folder}/r", commands=f"ipc://{folder}/c"
    )
    for _ in range(3):
        sockets_at(zmq_context, endpoints).close()
    assert list(folder.glob("*.lock")) == []


def test_a_lock_file_that_its_owner_removed_guards_nothing(folder: Path) -> None:
    """Many want one path at once and each lets go at once: never do two have it."""
    endpoint, holders, most = f"ipc://{folder}/s", [0], [0]
    guard = threading.Lock()

    def want_it_often() -> None:
        for _ in range(200):
            try:
                lock = EndpointLock(endpoint)
            except UnreachableError:
                continue
            with guard:
                holders[0] += 1
                most[0] = max(most[0], holders[0])
            with guard:
                holders[0] -= 1
            lock.release()

    threads = [threading.Thread(target=want_it_often) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT_SECONDS)
    assert most == [1]


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "inproc://x", "ipc://@x", "ipc://*"])
def test_only_paths_are_locked(endpoint: str, folder: Path) -> None:
    lock = EndpointLock(endpoint)
    lock.release()
    assert list(folder.iterdir()) == []


def test_a_path_that_cannot_be_is_refused_with_what_to_do(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(UnreachableError, match="take a path in a folder"):
        EndpointLock(f"ipc://{folder}/file/socket")


def test_a_worker_address_that_is_none_is_refused(
    zmq_context: "Context[zmq.Socket[bytes]]", make_endpoints: MakeEndpoints
) -> None:
    fresh = make_endpoints("inproc")
    with pytest.raises(UnreachableError, match=r"mend endpoints\.results_connect"):
        sockets_at(
            zmq_context,
            SocketEndpoints(
                steps=fresh.steps,
                results=fresh.results,
                commands=fresh.commands,
                results_connect=("127.0.0.1:5556",),
            ),
        )


def test_stopping_closes_everything_though_much_is_unsent(
    serve: Serve, transport: str, folder: Path
) -> None:
    """That the context ends, which waits for each socket, is checked by its fixture."""
    serving = serve(transport, granted=(b"steps.w1 ",))
    serving.subscribed(b"steps.w1 ")  # never reads
    for _ in range(2_000):
        serving.publish(b"steps.w1 ", b"x" * 1_000)
    serving.loop.stop()
    assert not serving.loop.is_alive()
    assert list(folder.glob("*.lock")) == []
    for socket_ in (serving.sockets.steps, serving.sockets.results, serving.sockets.commands):
        assert socket_.closed


def test_a_stopped_loop_takes_no_harm_from_late_senders(serve: Serve) -> None:
    serving = serve()
    serving.loop.stop()
    serving.publish(b"steps.w1 ", b"late")
    serving.write(b"route", b"late")
    serving.loop.stop()


def test_what_was_given_before_the_stop_is_sent(serve: Serve) -> None:
    serving = serve()
    dealer = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint)
    dealer.send(b"ask")
    route, _ = got(serving.notebook.commands)
    received: list[list[bytes]] = []
    reader = threading.Thread(target=lambda: received.append(receive(dealer)))
    reader.start()
    serving.write(route, b"answer")
    reader.join(WAIT_SECONDS)
    serving.loop.stop()
    assert received == [[b"answer"]]
