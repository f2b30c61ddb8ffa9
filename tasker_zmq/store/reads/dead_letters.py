"""Dead letters: lists by filter, groups of errors that look alike, and one with its whole story."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from tasker_zmq.store.reads.tasks import full_name
from tasker_zmq.store.tables import (
    DeadLetter,
    DeadLetterStatus,
    NamedTask,
    Namespace,
    Task,
    WorkflowStep,
)

LIMIT_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class LetterFilter:
    """Which dead letters; every condition is optional, all of them must hold."""

    reason: str | None = None
    task_id: int | None = None
    namespace: str | None = None
    workflow: str | None = None
    version: str | None = None
    step: str | None = None
    fingerprint: str | None = None
    status: str | None = None
    since: datetime | None = None


def joined(chosen: Select[Any], wanted: LetterFilter) -> Select[Any]:
    """`chosen` columns of the letters that match; a letter need not name a task."""
    return (
        chosen.select_from(DeadLetter)
        .outerjoin(Task, Task.task_id == DeadLetter.task_id)
        .outerjoin(NamedTask, NamedTask.named_task_id == Task.named_task_id)
        .outerjoin(Namespace, Namespace.task_namespace_id == NamedTask.task_namespace_id)
        .where(*_conditions(wanted))
    )


def _conditions(wanted: LetterFilter) -> list[ColumnElement[bool]]:
    equal = (
        (DeadLetter.reason, wanted.reason),
        (DeadLetter.task_id, wanted.task_id),
        (Namespace.name, wanted.namespace),
        (NamedTask.name, wanted.workflow),
        (NamedTask.version, wanted.version),
        (_step_name(), wanted.step),
        (DeadLetter.fingerprint, wanted.fingerprint),
        (DeadLetter.status, wanted.status),
    )
    found: list[ColumnElement[bool]] = [
        column == value for column, value in equal if value is not None
    ]
    if wanted.since is not None:
        found.append(DeadLetter.created_at >= wanted.since)
    return found


def _step_name() -> ColumnElement[str]:
    return _text_of("step_name")


def _error_message() -> ColumnElement[str]:
    return _text_of("error", "message")


def _text_of(*path: str) -> ColumnElement[str]:
    """A text from the snapshot; null where that has none, or is no object there."""
    return func.json_extract_path_text(DeadLetter.snapshot, *path)


def _letters(wanted: LetterFilter) -> Select[Any]:
    columns = select(
        DeadLetter.dead_letter_id,
        DeadLetter.status,
        DeadLetter.reason,
        DeadLetter.task_id,
        full_name().label("workflow"),
        DeadLetter.workflow_step_id.label("step_id"),
        _step_name().label("step"),
        DeadLetter.fingerprint,
        _error_message().label("message"),
        DeadLetter.created_at,
        DeadLetter.decided_by,
        DeadLetter.decision_reason,
        DeadLetter.decided_at,
    )
    return joined(columns, wanted)


def listed(
    connection: Connection, wanted: LetterFilter, *, limit: int, before: int | None = None
) -> list[dict[str, Any]]:
    """Newest first, at most `limit`, older than the letter `before`."""
    chosen = _letters(wanted).order_by(DeadLetter.dead_letter_id.desc())
    if before is not None:
        chosen = chosen.where(DeadLetter.dead_letter_id < before)
    return _rows(connection, chosen.limit(max(1, min(limit, LIMIT_MAX))))


def counted(connection: Connection, wanted: LetterFilter) -> int:
    """How many match."""
    columns: Select[Any] = select(func.count())
    return int(connection.execute(joined(columns, wanted)).scalar_one())


def found_open(connection: Connection, dead_letter_ids: Sequence[int]) -> int:
    """How many of these there are and are open."""
    chosen = select(func.count()).where(
        DeadLetter.dead_letter_id == func.any(list(dead_letter_ids)),
        DeadLetter.status == DeadLetterStatus.OPEN,
    )
    return int(connection.execute(chosen).scalar_one())


def groups(connection: Connection, wanted: LetterFilter, *, limit: int) -> list[dict[str, Any]]:
    """By fingerprint, workflow and step, the largest first; `message` is that of the newest."""
    letter = _letters(wanted).subquery().c
    alike = (letter.fingerprint, letter.workflow, letter.step)
    newest_first = aggregate_order_by(letter.message, letter.dead_letter_id.desc())
    count, newest = func.count(), func.max(letter.dead_letter_id)
    chosen: Any = select(
        count.label("count"),
        *alike,
        func.array_agg(letter.reason.distinct()).label("reasons"),
        func.min(letter.created_at).label("first"),
        func.max(letter.created_at).label("last"),
        newest.label("newest_id"),
        func.array_agg(newest_first)[1].label("message"),
    )
    ordered = chosen.group_by(*alike).order_by(count.desc(), newest.desc())
    return _rows(connection, ordered.limit(max(1, min(limit, LIMIT_MAX))))


def show(connection: Connection, dead_letter_id: int) -> dict[str, Any] | None:
    """One letter with its snapshot, how its step stands now, and the step's other letters."""
    chosen = (
        _letters(LetterFilter())
        .add_columns(
            DeadLetter.snapshot,
            WorkflowStep.state.label("step_state"),
            Task.state.label("task_state"),
        )
        .outerjoin(WorkflowStep, WorkflowStep.workflow_step_id == DeadLetter.workflow_step_id)
        .where(DeadLetter.dead_letter_id == dead_letter_id)
    )
    found = connection.execute(chosen).mappings().one_or_none()
    if found is None:
        return None
    others: Any = select(
        DeadLetter.dead_letter_id, DeadLetter.reason, DeadLetter.status, DeadLetter.created_at
    ).where(
        DeadLetter.workflow_step_id == found["step_id"],
        DeadLetter.dead_letter_id != dead_letter_id,
    )
    return {**found, "others": _rows(connection, others.order_by(DeadLetter.dead_letter_id))}


def _rows(connection: Connection, chosen: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(chosen).mappings()]
