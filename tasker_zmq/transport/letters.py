"""Letters on their way: what finds its peer's queue full is kept for a while, and sent in order.

A ROUTER passes such a letter over without a word, or says so: a peer that asked for much at once
and is slow to read would lack answers that were given.
"""

from collections import deque
from typing import Final

import zmq

KEPT_MAX: Final = 20_000  # of all peers; a letter beyond is dropped
KEPT_BYTES_MAX: Final = 32 << 20

Frames = list[bytes]


class Letters:
    """What a ROUTER sends; used by its thread only."""

    def __init__(
        self,
        router: "zmq.Socket[bytes]",
        *,
        kept_max: int = KEPT_MAX,
        bytes_max: int = KEPT_BYTES_MAX,
    ) -> None:
        self._router = router
        self._kept_max, self._bytes_max = kept_max, bytes_max
        self._kept: dict[bytes, deque[Frames]] = {}  # by peer
        self._count = self._bytes = 0
        self.dropped = 0  # because the peer did not read, and too much was kept already

    def __len__(self) -> int:
        return self._count

    def send(self, frames: Frames) -> None:
        """Behind what is kept for the same peer; to nobody if that peer is gone."""
        kept = self._kept.get(frames[0])
        if kept is None and self._try(frames):
            return
        size = sum(map(len, frames))
        if self._count >= self._kept_max or self._bytes + size > self._bytes_max:
            self.dropped += 1
            return
        self._kept.setdefault(frames[0], deque()).append(frames)
        self._count += 1
        self._bytes += size

    def again(self) -> None:
        """Send of what is kept all that can be sent now."""
        for peer, kept in list(self._kept.items()):
            while kept and self._try(kept[0]):
                self._count -= 1
                self._bytes -= sum(map(len, kept.popleft()))
            if not kept:
                del self._kept[peer]

    def _try(self, frames: Frames) -> bool:
        """Whether that is settled: it was sent, or there is no such peer."""
        try:
            self._router.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:
            return True
        return True
