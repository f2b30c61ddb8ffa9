"""When a failed step may be tried again: growing waits, a ceiling, chance to disperse the herd."""

from datetime import datetime, timedelta
from typing import Final, assert_never

from tasker_zmq.domain.template import Backoff, BackoffKind

DOUBLINGS_MAX: Final = 62  # beyond it every ceiling is reached; keeps the numbers small
ASKED_SECONDS_MAX: Final = 86_400.0


def next_attempt_at(
    backoff: Backoff, *, attempt: int, failed_at: datetime, chance: float, jitter: float
) -> datetime:
    """When the step is due again after its failure number `attempt` (counts from 1).

    `chance` in [0, 1) takes away up to the share `jitter` of the wait; it never adds to it.
    """
    wait_ms = min(_wait_ms(backoff, attempt), backoff.ceiling_ms)
    return failed_at + timedelta(milliseconds=wait_ms * (1.0 - jitter * chance))


def asked_attempt_at(*, failed_at: datetime, retry_after_seconds: float) -> datetime:
    """When the step is due again if its worker named the wait: at most a day, never in the past."""
    # In this order the pair also turns NaN into zero.
    seconds = max(0.0, min(retry_after_seconds, ASKED_SECONDS_MAX))
    return failed_at + timedelta(seconds=seconds)


def _wait_ms(backoff: Backoff, attempt: int) -> int:
    match backoff.kind:
        case BackoffKind.EXPONENTIAL:
            return backoff.base_ms << min(max(attempt - 1, 0), DOUBLINGS_MAX)
        case BackoffKind.LINEAR:
            return backoff.base_ms * max(attempt, 1)
        case BackoffKind.CONSTANT:
            return backoff.base_ms
        case _:
            assert_never(backoff.kind)
