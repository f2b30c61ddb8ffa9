"""Replies: the envelope around an answer or a refusal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tasker_zmq.errors import TaskerError
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer, letter
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ERROR,
    SUCCESS,
    Command,
    ErrorData,
    Payload,
)
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.store.connection import is_away, is_cancelled


class CommandRefusedError(TaskerError):
    """A command is refused; `code` is a stable word, `hint` says what to do.

    `core` is who would carry it out.
    """

    def __init__(
        self, code: str, message: str, *, hint: str = "", core: CoreAddress | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.core = core


def unanswerable(error: Exception) -> CommandRefusedError:
    """What who asks is told when the rows could not be read."""
    if is_cancelled(error):
        return CommandRefusedError(
            "took_too_long",
            "the database needed more time for that than a question has",
            hint="ask for a shorter time, or for less",
        )
    code = "database_away" if is_away(error) else "failed"
    return CommandRefusedError(code, "the question could not be answered")


LATER: Final = object()  # what a command returns whose answer does not come in this tick


@dataclass(frozen=True)
class Asked:
    """A command with the way back to who asked, and when it came."""

    route: tuple[bytes, ...]
    command: Command
    received_at: datetime | None = None


def success(asked: Asked, reply_type: str, data: Any, *, by: Answerer) -> Letter:
    """The answer to a command that was carried out."""
    payload = Payload(type=SUCCESS, data=codec.raw(data))
    return letter(asked.route, asked.command.command_id, reply_type, payload=payload, by=by)


def refusal(asked: Asked, error: CommandRefusedError, *, by: Answerer) -> Letter:
    """The answer to a command that was not."""
    return refuse(asked.route, asked.command, error, by=by)


def error_data(error: CommandRefusedError) -> ErrorData:
    """A refusal as it is told."""
    return ErrorData(
        code=error.code,
        message=str(error),
        hint=error.hint,
        core=msgspec.UNSET if error.core is None else error.core,
    )


def refuse(
    route: tuple[bytes, ...],
    command: Command | None,
    error: CommandRefusedError,
    *,
    by: Answerer,
) -> Letter:
    """The answer to a command that was not carried out, or to bytes that made none."""
    payload = Payload(type=ERROR, data=codec.raw(error_data(error)))
    asked_id = command.command_id if command else ""
    return letter(route, asked_id, "Error", payload=payload, by=by)
