"""Real processes of both programs that need not import the code: that takes longer than most tests.

A forge has imported both programs and does nothing else. For each process that is wanted it forks a
keeper, which forks the process, says its id, waits for its end and says its exit code. With
FRESH_PROCESSES=1 in the environment each is started by exec instead, as a user's is.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, NoReturn, Protocol

ROOT: Final = Path(__file__).resolve().parent.parent
FRESH: Final = "FRESH_PROCESSES"
PROGRAMS: Final = ("main", "worker")
IMPORTED: Final = ("daemon.daemon", "cli.daemon", *(f"cli.{name}" for name in PROGRAMS))
RUN: Final = "import sys; from tasker_zmq.cli.{module} import main; sys.exit(main())"
SERVE: Final = "from tests.forking import serve; serve({descriptor})"
ORDER_BYTES_MAX: Final = 1 << 17
WORD_BYTES_MAX: Final = 64


class Process(Protocol):
    """What the tests need of subprocess.Popen."""

    pid: int

    @property
    def returncode(self) -> int | Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start(
    module: str,
    arguments: Sequence[str],
    *,
    variables: Mapping[str, str],
    cwd: Path,
    streams: tuple[IO[Any], IO[Any]],
) -> Process:
    """The program of `tasker_zmq.cli.<module>`, its own session; `streams`: stdout and stderr."""
    if os.environ.get(FRESH):
        return subprocess.Popen(
            [sys.executable, "-c", RUN.format(module=module), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            cwd=cwd,
            env=dict(variables),
            start_new_session=True,
        )
    order = {
        "module": module,
        "arguments": list(arguments),
        "variables": dict(variables),
        "cwd": str(cwd),
    }
    return _forge().start(order, [each.fileno() for each in streams])


class Forked:
    """A process that is not our child; its keeper tells of its end."""

    def __init__(self, words: socket.socket) -> None:
        self._words = words
        self.pid = int(self._next_word())
        self.returncode: int | None = None

    def _next_word(self) -> bytes:
        found = self._words.recv(WORD_BYTES_MAX)
        assert found, "the keeper of a process was killed"
        return found

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._words], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = int(self._next_word())
            self._words.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # its keeper has not told yet
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forge:
    """The process that has imported the programs; it ends when this end of its socket is closed."""

    def __init__(self) -> None:
        self._orders, theirs = _pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE.format(descriptor=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, order: Mapping[str, object], streams: Sequence[int]) -> Forked:
        ours, theirs = _pair()
        with theirs:
            packed = json.dumps(order).encode()
            assert len(packed) < ORDER_BYTES_MAX
            socket.send_fds(self._orders, [packed], [theirs.fileno(), *streams])
        return Forked(ours)

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@cache
def _forge() -> Forge:
    found = Forge()
    atexit.register(found.close)
    return found


def serve(descriptor: int) -> None:
    """The forge; in a process that was ordered it raises SystemExit when that ends."""
    for name in IMPORTED:
        import_module(f"tasker_zmq.{name}")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    orders = socket.socket(fileno=descriptor)
    while True:
        packed, given, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 3)
        if not packed:
            return
        if os.fork() == 0:
            orders.close()
            _keep(json.loads(packed), *given)
        for each in given:
            os.close(each)


def _keep(order: dict[str, Any], words: int, *streams: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process_id = os.fork()
    told = socket.socket(fileno=words)
    if process_id == 0:
        _become(order, told, streams)
    for each in streams:
        os.close(each)
    with told, suppress(BrokenPipeError):
        _, status = os.waitpid(process_id, 0)
        told.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: dict[str, Any], told: socket.socket, streams: Sequence[int]) -> NoReturn:
    """What exec would have made of this process; from then on others may know it."""
    os.setsid()
    for ours, given in zip((sys.stdout, sys.stderr), streams, strict=True):
        os.dup2(given, ours.fileno())
    for given in set(streams):
        os.close(given)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["variables"])
    sys.argv = ["-c", *order["arguments"]]
    with told:
        told.send(b"%d" % os.getpid())
    sys.exit(import_module(f"tasker_zmq.cli.{order['module']}").main())
