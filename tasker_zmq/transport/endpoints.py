"""Endpoints: binding with the refusals spelled out, and locks that keep ipc paths from theft."""

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO

import zmq

from tasker_zmq.errors import UnreachableError

IPC = "ipc://"


class EndpointLock:
    """Held while an ipc path is bound: a second bind would silently steal the path."""

    def __init__(self, endpoint: str) -> None:
        self._file: IO[str] | None = None
        path = endpoint.removeprefix(IPC)
        if not endpoint.startswith(IPC) or path.startswith("@") or path == "*":
            return
        lock = Path(path + ".lock")
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = lock.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UnreachableError(
                f"cannot bind {endpoint}: another process has it; stop that, or take another path"
            ) from None

    def release(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                Path(self._file.name).unlink()
            self._file.close()
            self._file = None


def bind(socket: "zmq.Socket[bytes]", endpoint: str, *, purpose: str) -> str:
    """Bind and return the endpoint with the port that it really got."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise UnreachableError(
            f"cannot bind {purpose} to {endpoint}: {error}; stop what uses it, or set "
            f"endpoints.{purpose} to another address (tcp://127.0.0.1:* takes any free port)"
        ) from None
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
