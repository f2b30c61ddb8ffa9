"""A command on its way: what is sent, how often, and when again; by its sender's retry policy."""

from dataclasses import dataclass
from typing import Final

import msgspec

from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command
from tasker_zmq.protocol.envelope import RetryPolicy

USUAL: Final = RetryPolicy()
DOUBLINGS_MAX: Final = 60  # of a wait: beyond that it has long been as long as it may be


@dataclass
class Sending:
    """`until` is when its sender stops waiting, on the clock that `now` comes from."""

    command: Command
    policy: RetryPolicy
    until: float
    sent: int = 0

    def frame(self, now: float) -> bytes:
        """As it goes out now: it says how long its sender still waits."""
        left_ms = max(1, round((self.until - now) * 1_000))
        metadata = msgspec.structs.replace(self.command.metadata, timeout_ms=left_ms)
        return codec.encode(msgspec.structs.replace(self.command, metadata=metadata))

    def wait(self) -> float | None:
        """Seconds after this sending until the next one; None: it was the last."""
        if self.sent >= self.policy.max_attempts:
            return None
        grown = self.policy.backoff_multiplier ** min(self.sent - 1, DOUBLINGS_MAX)
        return min(self.policy.backoff_ms * grown, self.policy.backoff_ms_max) / 1_000
