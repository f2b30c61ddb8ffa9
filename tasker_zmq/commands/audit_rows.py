"""Frames of commands as rows of the audit: who, what, about what, and what came of it."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar

import msgspec

from tasker_zmq.commands.pending import PendingCommand
from tasker_zmq.commands.router import command_type
from tasker_zmq.domain.ids import StepId
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import TASKS_INITIALIZED, TaskCounts
from tasker_zmq.protocol.commands import ERROR, NULL, Command, ErrorData, InHand, Payload
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.store.audit import AuditRow, Direction

UNREADABLE: Final = "unreadable"  # the command type of bytes that make no command
LOST: Final = "AuditLost"  # and of the row that says how many others are missing
SUCCESS, UNANSWERED, TIMED_OUT, ANSWERED = "success", "unanswered", "timed_out", "answered"
WORD_LENGTH_MAX: Final = 200  # of what is indexed: anybody may send a megabyte as an id
CONTEXT_BYTES_MAX: Final = 4 << 10
SUBJECT_BYTES_MAX: Final = 64 << 10  # larger data are not searched for what they are about

Route = tuple[bytes, ...]
Part = TypeVar("Part")


class Noted(NamedTuple):
    """A frame that passed by; `command` is there if somebody has read it already."""

    at: datetime
    direction: Direction
    route: Route
    body: bytes
    command: Command | None = None

    def read(self) -> Command | None:
        """The envelope, if it is one; what arrived is looked at closely, what we wrote is not."""
        if self.command is not None:
            return self.command
        with suppress(ProtocolError, msgspec.MsgspecError):
            if self.direction is Direction.RECEIVED:
                return codec.decode_command(self.body, _LIMITS)
            return _commands.decode(self.body)
        return None


class Subject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a command, an answer or an audit context may say that it is about."""

    session_id: str | None = None
    worker_name: str | None = None
    batch_id: str | None = None
    task_id: int | None = None


_LIMITS: Final = WireLimits()
_commands: Final = msgspec.json.Decoder(Command)
_subjects: Final = msgspec.json.Decoder(Subject)
NOTHING: Final = Subject()
_MILLISECOND: Final = timedelta(milliseconds=1)
# These name nobody in their data, which may be long.
_ABOUT_NOBODY: Final = frozenset({"InitializeTask", "InitializeTasks", "PublishTemplates"})


def kind_of(command: Command | None) -> str:
    """The command's type as the router knows it."""
    return UNREADABLE if command is None else command_type(command.command_type)


def subject_of(command: Command | None) -> Subject:
    """What it is about, by its data or else by its audit context."""
    if command is None:
        return NOTHING
    nobody = command.command_type in _ABOUT_NOBODY
    found = NOTHING if nobody else _about(command.payload.data)
    context = _context(command)
    if context is None:
        return found
    told = _about(msgspec.Raw(context))
    return msgspec.structs.replace(
        found, batch_id=found.batch_id or told.batch_id, task_id=found.task_id or told.task_id
    )


def _about(raw: msgspec.Raw) -> Subject:
    if len(raw) <= SUBJECT_BYTES_MAX:
        with suppress(msgspec.MsgspecError, RecursionError):
            return _subjects.decode(raw)
    return NOTHING


def data_of(command: Command, kind: type[Part]) -> Part:
    """The data as that struct; its defaults when they are none."""
    try:
        return codec.decode_data(command.payload.data, kind)
    except ProtocolError:
        return kind()


def _context(command: Command | None) -> bytes | None:
    if command is None or command.audit_context == NULL:
        return None
    text = bytes(command.audit_context)
    return text if len(text) <= CONTEXT_BYTES_MAX else None


def outcome_of(answer: Command) -> str:
    """`success`, or the code of the refusal."""
    if answer.payload.type != ERROR:
        return SUCCESS
    with suppress(ProtocolError):
        return codec.decode_data(answer.payload.data, ErrorData).code
    return ERROR


def row_of(
    noted: Noted,
    command: Command | None,
    subject: Subject,
    *,
    envelope_bytes_max: int,
    outcome: str | None = None,
    execution_time_ms: float | None = None,
) -> AuditRow:
    """A command that passed by, with what came of it."""
    size = len(noted.body)
    source = command.metadata.source if command else None
    worker = subject.worker_name
    if worker is None and source is not None and source.type == "worker":
        worker = source.id
    return AuditRow(
        created_at=noted.at,
        direction=noted.direction,
        command_type=kind_of(command)[:WORD_LENGTH_MAX],
        command_id=command.command_id[:WORD_LENGTH_MAX] if command else "",
        correlation_id=_conversation(noted, command),
        worker_name=word(worker),
        session_id=word(subject.session_id),
        batch_uuid=word(subject.batch_id),
        task_id=subject.task_id,
        outcome=outcome,
        execution_time_ms=execution_time_ms,
        envelope=_envelope(noted, command, bytes_max=envelope_bytes_max),
        envelope_bytes=size,
        source=word(f"{source.type} {source.id}" if source else None),
        audit_context=_context(command),
    )


def _envelope(noted: Noted, command: Command | None, *, bytes_max: int) -> bytes | None:
    """The message itself; of a long list of what became of tasks, how many of each kind."""
    if command is None or len(noted.body) <= bytes_max:
        return noted.body if command is not None else None
    if command.command_type != TASKS_INITIALIZED or command.payload.type == ERROR:
        return None
    counts = codec.raw(data_of(command, TaskCounts))
    payload = Payload(type=command.payload.type, data=counts)
    short = codec.encode(msgspec.structs.replace(command, payload=payload))
    return short if len(short) <= bytes_max else None


def in_context(row: AuditRow, asked: Command | None) -> AuditRow:
    """The row of an answer, part of whatever the command was part of."""
    context = None if row.audit_context is not None else _context(asked)
    return row if context is None else msgspec.structs.replace(row, audit_context=context)


def _conversation(noted: Noted, command: Command | None) -> str | None:
    """A received command begins one, whatever it says itself; an answer belongs to its question."""
    if command is None:
        return None
    if noted.direction is Direction.RECEIVED or command.correlation_id is None:
        return word(command.command_id)
    return word(command.correlation_id)


def either(answer: Subject, asked: Subject) -> Subject:
    """What the answer says, else what the command said."""
    if asked is NOTHING:
        return answer
    return Subject(
        session_id=answer.session_id or asked.session_id,
        worker_name=answer.worker_name or asked.worker_name,
        batch_id=answer.batch_id or asked.batch_id,
        task_id=asked.task_id if answer.task_id is None else answer.task_id,
    )


def timed_out(told: PendingCommand, worker_name: str | None) -> AuditRow:
    """That what the daemon told a worker has had no answer in time."""
    return AuditRow(
        created_at=told.due_at,
        direction=Direction.SENT,
        command_type=told.command_type,
        command_id=told.command_id[:WORD_LENGTH_MAX],
        correlation_id=word(told.command_id),
        worker_name=worker_name,
        session_id=word(told.session_id),
        outcome=TIMED_OUT,
        execution_time_ms=milliseconds(told.due_at - told.sent_at),
    )


def answered(
    told: PendingCommand, noted: Noted, command: Command, *, worker_name: str | None
) -> AuditRow:
    """That a worker's own command was the answer to what the daemon told it."""
    return AuditRow(
        created_at=noted.at,
        direction=Direction.RECEIVED,
        command_type=kind_of(command),
        command_id=command.command_id[:WORD_LENGTH_MAX],
        correlation_id=word(told.command_id),
        worker_name=worker_name,
        session_id=word(told.session_id),
        outcome=ANSWERED,
        execution_time_ms=milliseconds(noted.at - told.sent_at),
    )


def lost_row(messages: int, at: datetime) -> AuditRow:
    """That so many commands and answers are missing here."""
    return AuditRow(
        created_at=at,
        direction=Direction.RECEIVED,
        command_type=LOST,
        outcome="lost",
        messages=messages,
    )


def steps_of(in_hand: Sequence[InHand]) -> frozenset[StepId]:
    """All steps of several batches."""
    return frozenset(step_id for each in in_hand for step_id in each.step_ids)


def word(text: str | None) -> str | None:
    """At most as much as is kept of what others call things."""
    return text if text is None else text[:WORD_LENGTH_MAX]


def milliseconds(span: timedelta) -> float:
    """A span as the audit has it."""
    return round(span / _MILLISECOND, 3)
