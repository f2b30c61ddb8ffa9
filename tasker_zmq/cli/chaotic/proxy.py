"""A proxy for one link: forwards bytes, until it is told to cut, to stall or to go half deaf.

It knows nothing of what it carries. One thread serves all connections of a link; orders come from
any thread and are carried out there.
"""

import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 65_536
PENDING_BYTES_MAX: Final = 1 << 20
CONNECT_SECONDS_MAX: Final = 2.0
STOP_SECONDS_MAX: Final = 5.0
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close without a farewell


class Side(StrEnum):
    """Who is at that end of a link."""

    NEAR = "near"  # who connected to the proxy
    FAR = "far"  # whom the proxy connected to


@dataclass(eq=False)
class End:
    """One socket of a pair, and what waits to be written to it."""

    socket: socket.socket
    side: Side
    pending: bytearray = field(default_factory=bytearray)
    other: "End | None" = None  # None once that one was closed behind its back


def _address(endpoint: str) -> tuple[int, str | tuple[str, int]]:
    transport, _, place = endpoint.partition("://")
    if transport == "ipc":
        return socket.AF_UNIX, place
    host, _, port = place.rpartition(":")
    return socket.AF_INET, (host, int(port))


class Proxy(threading.Thread):
    """Listens at `listen` and forwards to `target`; both are ipc:// or tcp:// endpoints."""

    def __init__(self, listen: str, target: str) -> None:
        super().__init__(name="proxy", daemon=True)
        self._listen, self._target = listen, target
        self._orders: deque[Callable[[], None]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._ends: dict[socket.socket, End] = {}
        self._selector = selectors.DefaultSelector()
        self._stalled = False
        self._cut_after: int | None = None
        self._over = False
        self.carried_bytes = 0
        family, address = _address(listen)
        self._door = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET:
            self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind(address)
        self._door.listen(64)
        self._door.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    @property
    def endpoint(self) -> str:
        """Where to connect to; a TCP port that was 0 is the real one."""
        if self._door.family == socket.AF_UNIX:
            return self._listen
        host, port = self._door.getsockname()
        return f"tcp://{host}:{port}"

    def cut(self) -> None:
        """End all connections at both ends; new ones are let in at once."""
        self._order(self._close_all)

    def cut_mid_frame(self, after_bytes: int) -> None:
        """Let so many bytes more through, then end all connections."""

        def arm() -> None:
            self._cut_after = after_bytes

        self._order(arm)

    def stall(self) -> None:
        """Carry nothing, end nothing, let nobody in, until `flow`."""
        self._order(lambda: self._set_stalled(stalled=True))

    def flow(self) -> None:
        self._order(lambda: self._set_stalled(stalled=False))

    def half_open(self, closed: Side) -> None:
        """Close the ends at one side; the others believe that they are still connected."""

        def close() -> None:
            for each in [each for each in self._ends.values() if each.side is closed]:
                if each.other is not None:
                    each.other.other = None
                    each.other.pending.clear()
                self._close(each)

        self._order(close)

    def stop(self) -> None:
        """End everything, and the thread."""

        def end() -> None:
            self._over = True

        self._order(end)
        if self.is_alive():
            self.join(STOP_SECONDS_MAX)

    def run(self) -> None:
        while not self._over:
            for key, events in self._selector.select():
                self._serve(key.fileobj, events)  # type: ignore[arg-type] # sockets alone are in it
        self._close_all()
        for each in (self._door, self._wake, self._woken):
            each.close()
        if self._listen.startswith("ipc://"):
            Path(self._listen.removeprefix("ipc://")).unlink(missing_ok=True)
        self._selector.close()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with suppress(OSError):
            self._wake.send(b"!")

    def _serve(self, ready: socket.socket, events: int) -> None:
        if ready is self._woken:
            with suppress(BlockingIOError):
                self._woken.recv(CHUNK_BYTES)
            while self._orders:
                self._orders.popleft()()
        elif ready is self._door:
            self._let_in()
        elif (end := self._ends.get(ready)) is not None:  # else closed in this very turn
            self._carry(end, events)

    def _set_stalled(self, *, stalled: bool) -> None:
        self._stalled = stalled
        self._watch(self._door, 0 if stalled else selectors.EVENT_READ)
        for end in self._ends.values():
            self._look_after(end)

    def _let_in(self) -> None:
        try:
            near, _ = self._door.accept()
        except OSError:
            return
        family, address = _address(self._target)
        far = socket.socket(family, socket.SOCK_STREAM)
        far.settimeout(CONNECT_SECONDS_MAX)
        try:
            far.connect(address)
        except OSError:  # whoever should listen there is away: so it seems from here too
            near.close()
            far.close()
            return
        ends = End(near, Side.NEAR), End(far, Side.FAR)
        for end, other in (ends, ends[::-1]):
            end.other = other
            end.socket.setblocking(False)
            self._ends[end.socket] = end
            self._look_after(end)

    def _carry(self, end: End, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE and end.pending:
                sent = end.socket.send(end.pending)
                del end.pending[:sent]
            if events & selectors.EVENT_READ:
                self._read(end)
        except BlockingIOError:
            pass
        except OSError:
            self._close_pair(end)
        if end.socket in self._ends:
            self._look_after(end)
            if end.other is not None:
                self._look_after(end.other)

    def _read(self, end: End) -> None:
        chunk = end.socket.recv(CHUNK_BYTES)
        if not chunk:
            self._close_pair(end)
            return
        if end.other is None:
            return  # half open: it vanishes, as on a dead line
        last = self._cut_after is not None and len(chunk) >= self._cut_after
        if last:
            chunk = chunk[: self._cut_after]
        elif self._cut_after is not None:
            self._cut_after -= len(chunk)
        end.other.pending += chunk
        self.carried_bytes += len(chunk)
        if last:
            self._cut_after = None
            end.other.socket.send(end.other.pending)
            self._close_all()

    def _look_after(self, end: End) -> None:
        """Watch for what can be done with this end now."""
        full = end.other is not None and len(end.other.pending) > PENDING_BYTES_MAX
        wanted = 0 if full else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if end.pending else 0
        self._watch(end.socket, 0 if self._stalled else wanted)

    def _watch(self, watched: socket.socket, events: int) -> None:
        known = watched in self._selector.get_map()
        if known and not events:
            self._selector.unregister(watched)
        elif known:
            self._selector.modify(watched, events)
        elif events:
            self._selector.register(watched, events)

    def _close_all(self) -> None:
        for end in list(self._ends.values()):
            self._close(end)

    def _close_pair(self, end: End) -> None:
        """One side has gone: what it had said is still delivered, then the other goes too."""
        other = end.other
        if other is not None and other.pending and not self._stalled:
            with suppress(OSError):
                other.socket.send(other.pending)
        for each in (end, other):
            if each is not None and each.socket in self._ends:
                self._close(each)

    def _close(self, end: End) -> None:
        self._watch(end.socket, 0)
        del self._ends[end.socket]
        with suppress(OSError):
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.socket.close()
