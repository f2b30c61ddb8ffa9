"""Replies: the envelope around an answer or a refusal."""

from dataclasses import dataclass
from typing import Any

from tasker_zmq.errors import TaskerError
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ERROR,
    SUCCESS,
    Command,
    CommandMetadata,
    ErrorData,
    Payload,
    Peer,
)


class CommandRefusedError(TaskerError):
    """A command is refused; `code` is a stable word, `hint` says what to do."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True)
class Asked:
    """A command with the way back to who asked."""

    route: tuple[bytes, ...]
    command: Command


def success(asked: Asked, reply_type: str, data: Any, *, core_id: str) -> Letter:
    """The answer to a command that was carried out."""
    payload = Payload(type=SUCCESS, data=codec.raw(data))
    return _letter(asked.route, asked.command, reply_type, payload=payload, core_id=core_id)


def refusal(asked: Asked, error: CommandRefusedError, *, core_id: str) -> Letter:
    """The answer to a command that was not."""
    return refuse(asked.route, asked.command, error, core_id=core_id)


def refuse(
    route: tuple[bytes, ...], command: Command | None, error: CommandRefusedError, *, core_id: str
) -> Letter:
    """The answer to a command that was not carried out, or to bytes that made none."""
    data = ErrorData(code=error.code, message=str(error), hint=error.hint)
    payload = Payload(type=ERROR, data=codec.raw(data))
    return _letter(route, command, "Error", payload=payload, core_id=core_id)


def _letter(
    route: tuple[bytes, ...],
    command: Command | None,
    reply_type: str,
    *,
    payload: Payload,
    core_id: str,
) -> Letter:
    asked_id = command.command_id if command else ""
    reply = Command(
        command_type=reply_type,
        command_id=f"re-{asked_id}",
        correlation_id=asked_id or None,
        metadata=CommandMetadata(source=Peer(type="tasker-zmq", id=core_id)),
        payload=payload,
    )
    return Letter(route, codec.encode(reply))
