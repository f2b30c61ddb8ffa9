"""Answers as letters: the envelope around what is answered."""

from dataclasses import dataclass
from datetime import datetime

from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, CommandMetadata, Payload, Peer

CORE = "core"


@dataclass(frozen=True)
class Answerer:
    """Who answers, and when."""

    core_id: str
    at: datetime


def letter(
    route: tuple[bytes, ...],
    asked_id: str,
    reply_type: str,
    *,
    payload: Payload,
    by: Answerer,
) -> Letter:
    """The reply to the command of this id, or to bytes that made none, with an empty one."""
    reply = Command(
        command_type=reply_type,
        command_id=f"re-{asked_id}",
        correlation_id=asked_id or None,
        metadata=CommandMetadata(
            timestamp=by.at.isoformat(), source=Peer(type=CORE, id=by.core_id)
        ),
        payload=payload,
    )
    return Letter(route, codec.encode(reply))
