"""A command that was received once, sent again: whether it may be, and what comes back."""

from typing import Any, Final

import msgspec

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.commands.router import ROUTES
from tasker_zmq.domain.replay import PastCommand, why_never, why_not_same
from tasker_zmq.errors import NotFoundError, RefusedError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Peer
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.store.reads import commands as reads

_LIMITS: Final = WireLimits(command_bytes_max=1 << 30, nesting_max=256)


def replay(invocation: Invocation, word: str, *, again: bool, execute: bool) -> dict[str, Any]:
    """What is sent, and with `execute` what it was answered.

    Raises NotFoundError, or RefusedError with the reason why it must not be sent again.
    """
    with reading(invocation) as connection:
        row = reads.received(connection, word, now=read_clock())
    if row is None:
        raise NotFoundError(
            f"no daemon has received a command '{word}' that was kept; "
            "`tasker-zmq commands list` shows the newest"
        )
    past = _past(row)
    reason = why_never(past)
    if reason is not None:
        raise RefusedError(reason)
    if not again and (reason := why_not_same(past)) is not None:
        raise RefusedError(f"{reason}; --again sends it under a new id, to be done once more")
    planned: dict[str, Any] = {
        "command_type": row["command_type"],
        "command_id": None if again else row["command_id"],
        "received_at": row["created_at"],
        "outcome_then": row["outcome"],
        "source_then": row["source"],
        "sent": execute,
    }
    command = codec.decode_command(row["envelope"].encode(), _LIMITS)
    if not execute:
        return {**planned, "data": msgspec.json.decode(command.payload.data)}
    if not again:  # only the daemon that did it knows its id
        core = Peer(type="core", id=row["core_id"])
        metadata = msgspec.structs.replace(command.metadata, target=core)
        command = msgspec.structs.replace(command, metadata=metadata)
    with CommandClient(invocation.settings.endpoints.commands) as client:
        command_id, answer = client.repeat(command, new_id=again)
    return {**planned, "command_id": command_id, "answer": msgspec.json.decode(answer)}


def _past(row: dict[str, Any]) -> PastCommand:
    route = ROUTES.get(row["command_type"])
    return PastCommand(
        command_type=row["command_type"],
        received_at=row["created_at"],
        has_envelope=row["envelope"] is not None,
        envelope_bytes=row["envelope_bytes"],
        changes_nothing=route is not None and route.asks,
        core_started_at=row["core_started_at"],
        later=row["later"],
    )
