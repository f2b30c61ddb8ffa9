"""Endpoints: binding with the refusals spelled out, and locks that keep ipc paths from theft."""

import fcntl
import os
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
        try:
            self._file = _locked(Path(path + ".lock"))
        except BlockingIOError:
            raise UnreachableError(
                f"cannot bind {endpoint}: another process has it; stop that, or take another path"
            ) from None
        except OSError as error:
            raise UnreachableError(
                f"cannot bind {endpoint}: {error.strerror}: {error.filename}; take a path in a "
                "folder that this user may write to"
            ) from None

    def release(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                Path(self._file.name).unlink()
            self._file.close()
            self._file = None


def _locked(path: Path) -> IO[str]:
    """`path` opened and locked; BlockingIOError if another process has the lock."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it since it was opened: then it guards nothing.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def advertised(endpoint: str, host: str | None) -> str:
    """Where others reach what is bound to `endpoint`, on a machine that they know as `host`."""
    transport, _, rest = endpoint.partition("://")
    if host is None or transport != "tcp":
        return endpoint
    return f"tcp://{host}:{rest.rpartition(':')[2]}"


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
