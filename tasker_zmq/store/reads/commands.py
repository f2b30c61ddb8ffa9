"""The audit of commands: the newest by filter, one conversation, and how long each kind took."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Text, cast, func, select

from tasker_zmq.store.reads.numbers import is_id
from tasker_zmq.store.tables import CommandAudit, Core

LIMIT_MAX: Final = 1_000
CONVERSATION_MAX: Final = 1_000
LATER_MAX: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class CommandFilter:
    """Which rows; every condition is optional, all of them must hold. `slow_ms`: at least that."""

    command_type: str | None = None
    since: datetime | None = None
    worker_name: str | None = None
    outcome: str | None = None
    direction: str | None = None
    task_id: int | None = None
    slow_ms: float | None = None
    limit: int = 20


def _entries() -> Any:
    return select(
        CommandAudit.id,
        CommandAudit.created_at,
        CommandAudit.core_id,
        CommandAudit.direction,
        CommandAudit.command_type,
        CommandAudit.outcome,
        CommandAudit.execution_time_ms,
        CommandAudit.messages,
        CommandAudit.source,
        CommandAudit.worker_name.label("worker"),
        CommandAudit.session_id,
        CommandAudit.task_id,
        CommandAudit.batch_uuid,
        CommandAudit.command_id,
        CommandAudit.correlation_id,
        CommandAudit.envelope_bytes,
        CommandAudit.audit_context,
    )


def listed(connection: Connection, wanted: CommandFilter) -> list[dict[str, Any]]:
    """The newest rows, the oldest of them first."""
    chosen = _entries().order_by(CommandAudit.created_at.desc(), CommandAudit.id.desc())
    conditions = (
        (CommandAudit.command_type, wanted.command_type),
        (CommandAudit.worker_name, wanted.worker_name),
        (CommandAudit.outcome, wanted.outcome),
        (CommandAudit.direction, wanted.direction),
        (CommandAudit.task_id, wanted.task_id),
    )
    for column, value in conditions:
        if value is not None:
            chosen = chosen.where(column == value)
    if wanted.since is not None:
        chosen = chosen.where(CommandAudit.created_at >= wanted.since)
    if wanted.slow_ms is not None:
        chosen = chosen.where(CommandAudit.execution_time_ms >= wanted.slow_ms)
    limit = max(1, min(wanted.limit, LIMIT_MAX))
    rows = [dict(row) for row in connection.execute(chosen.limit(limit)).mappings()]
    return rows[::-1]


def conversation(connection: Connection, word: str) -> list[dict[str, Any]]:
    """All rows of a command, both ways, oldest first; `word` is a row's id or a command's.

    `envelope` is what travelled, to the byte; None if it was not kept.
    """
    if is_id(word):
        chosen = select(CommandAudit.correlation_id).where(CommandAudit.id == int(word))
        row = connection.execute(chosen).one_or_none()
        if row is not None and row.correlation_id is None:  # a count, or what made no command
            return _whole(connection, CommandAudit.id == int(word))
        word = word if row is None else row.correlation_id
    return _whole(connection, CommandAudit.correlation_id == word)


def received(connection: Connection, word: str, *, now: datetime) -> dict[str, Any] | None:
    """The command as it was received, for somebody who would send it again.

    `core_started_at` is None if its core does not live; `later` is how many that core received
    since, counted up to LATER_MAX.
    """
    asked = [row for row in conversation(connection, word) if row["direction"] == "received"]
    if not asked:
        return None
    row = asked[0]
    alive = select(Core.started_at).where(
        Core.core_id == row["core_id"], Core.lease_expires_at > now
    )
    later = (
        select(CommandAudit.id)
        .where(
            CommandAudit.created_at >= row["created_at"],
            CommandAudit.core_id == row["core_id"],
            CommandAudit.direction == "received",
        )
        .limit(LATER_MAX)
    )
    counted = select(func.count()).select_from(later.subquery())
    return {
        **row,
        "core_started_at": connection.execute(alive).scalar(),
        "later": connection.execute(counted).scalar_one(),
    }


def _whole(connection: Connection, condition: Any) -> list[dict[str, Any]]:
    chosen = (
        _entries()
        .add_columns(cast(CommandAudit.envelope, Text).label("envelope"))
        .where(condition)
        .order_by(CommandAudit.created_at, CommandAudit.id)
        .limit(CONVERSATION_MAX)
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]


def latencies(connection: Connection, *, since: datetime) -> list[dict[str, Any]]:
    """For each type of command that was received: how many, how many refused, milliseconds.

    Those that are only counted have no percentiles, and the worst minute's average as `max_ms`.
    """
    time = CommandAudit.execution_time_ms
    single = CommandAudit.messages == 1
    refused = CommandAudit.outcome.is_distinct_from("success")
    messages = func.coalesce(func.sum(CommandAudit.messages), 0)
    chosen = (
        select(
            CommandAudit.command_type,
            messages.label("count"),
            func.coalesce(func.sum(CommandAudit.messages).filter(refused), 0).label("refused"),
            func.percentile_cont(0.5).within_group(time).filter(single).label("p50_ms"),
            func.percentile_cont(0.95).within_group(time).filter(single).label("p95_ms"),
            func.max(time).label("max_ms"),
        )
        .where(
            CommandAudit.created_at >= since,
            CommandAudit.direction == "received",
            CommandAudit.outcome.is_distinct_from("answered"),
        )
        .group_by(CommandAudit.command_type)
        .order_by(messages.desc())
    )
    return [dict(row) for row in connection.execute(chosen).mappings()]
