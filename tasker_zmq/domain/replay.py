"""May a command of the past be sent again: pure, and with the reason when not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

REMEMBERED_MAX: Final = 10_000  # answers that a daemon keeps

_OF_A_SESSION: Final = "it speaks for a session, and only the worker that has it can"
NEVER: Final[Mapping[str, str]] = {
    "RegisterWorker": "it would begin a session that no worker has",
    "WorkerHeartbeat": "a sign of life is true only in its moment",
    "WorkerGoodbye": _OF_A_SESSION,
    "ConfirmStart": _OF_A_SESSION,
    "SystemManagement": "what was meant for a daemon then may not be meant now",
    "ReportPartialResult": _OF_A_SESSION,
    "ReportBatchCompletion": _OF_A_SESSION,
}


@dataclass(frozen=True, kw_only=True)
class PastCommand:
    """What the audit knows of a command that was received.

    `core_started_at` is when the daemon that received it began, None if it does not live;
    `later` is how many were received since.
    """

    command_type: str
    received_at: datetime
    has_envelope: bool
    envelope_bytes: int | None
    changes_nothing: bool
    core_started_at: datetime | None
    later: int


def why_never(past: PastCommand) -> str | None:
    """Why it cannot be sent again at all."""
    if past.command_type in NEVER:
        return f"a {past.command_type} is not replayed: {NEVER[past.command_type]}"
    if not past.has_envelope:
        size = f", it had {past.envelope_bytes} bytes" if past.envelope_bytes else ""
        return f"its envelope was not kept{size}; see audit.envelope_bytes_max"
    return None


def why_not_same(past: PastCommand) -> str | None:
    """Why it must not be sent under its own id: the daemon may have forgotten that it did it."""
    if past.changes_nothing:
        return None
    if past.core_started_at is None or past.received_at < past.core_started_at:
        return "the daemon that carried it out was restarted since, and no longer knows its id"
    if past.later >= REMEMBERED_MAX:
        return f"{past.later} commands came since: the daemon may no longer know its id"
    return None
