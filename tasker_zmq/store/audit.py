"""The audit of commands: rows are only ever added, many at once.

By COPY: for rows of a kilobyte of JSON it takes this process and the server half of what an INSERT
of arrays does, and nothing is looked up or returned.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
import psycopg
from sqlalchemy import Connection


class Direction(StrEnum):
    """Whether the core was told, or told somebody."""

    RECEIVED = "received"
    SENT = "sent"


class AuditRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A command, or how many of a kind there were; `envelope` and `audit_context` are JSON.

    `correlation_id` is the id of the command with which the conversation began: also its own.
    """

    created_at: datetime
    direction: Direction
    task_id: int | None = None
    execution_time_ms: float | None = None
    envelope_bytes: int | None = None
    messages: int = 1
    command_type: str
    command_id: str = ""
    correlation_id: str | None = None
    worker_name: str | None = None
    session_id: str | None = None
    batch_uuid: str | None = None
    outcome: str | None = None
    source: str | None = None
    envelope: bytes | None = None
    audit_context: bytes | None = None


COLUMNS: Final = AuditRow.__struct_fields__
_COPY: Final = f"COPY tasker_worker_command_audit (core_id, {', '.join(COLUMNS)}) FROM STDIN"


def write(connection: Connection, rows: Sequence[AuditRow], *, core_id: str) -> None:
    """Add rows in their order, in the open transaction; raises psycopg's errors."""
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise psycopg.InterfaceError("the connection is closed")
    core = _text(core_id)
    lines = [b"%b\t%b" % (core, _line(row)) for row in rows]
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write(b"\n".join(lines) + b"\n")


def _line(row: AuditRow) -> bytes:
    """A row as COPY's text format has it; words are looked at one by one only if any is odd."""
    at, direction, task_id, taken_ms, size, messages, *words, envelope, context = (
        msgspec.structs.astuple(row)
    )
    together = "".join(filter(None, words))
    if together.isprintable() and "\\" not in together:
        texts = [_NULL if each is None else each for each in words]
    else:
        texts = [_NULL if each is None else _escaped(each.encode()).decode() for each in words]
    figures = (
        f"{at.isoformat()}\t{direction}\t{_NULL if task_id is None else task_id}\t"
        f"{_NULL if taken_ms is None else taken_ms}\t{_NULL if size is None else size}\t{messages}"
    )
    line = "\t".join((figures, *texts)).encode()
    return b"%b\t%b\t%b" % (line, _json(envelope), _json(context))


def _json(text: bytes | None) -> bytes:
    return _NULL.encode() if text is None else _escaped(text)


def _text(value: str) -> bytes:
    plain = value.isprintable() and "\\" not in value
    return value.encode() if plain else _escaped(value.encode())


def _escaped(text: bytes) -> bytes:
    """What ends a field, a line or an escape, each behind a backslash."""
    if b"\\" in text:
        text = text.replace(b"\\", b"\\\\")
    for raw, written in _ESCAPES:
        if raw in text:
            text = text.replace(raw, written)
    return text


_ESCAPES: Final = ((b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"))
_NULL: Final = "\\N"
