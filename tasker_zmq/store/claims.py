"""Claims given up: tasks that a core leaves to others for a while, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.store.statements import rows


@dataclass(frozen=True, kw_only=True)
class Release:
    """Who gives claims up, why, and until when it claims none of these tasks again."""

    core_id: CoreId
    why: str
    by: str | None
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Released:
    """What became of claims of this core: steps of those `in_flight` are with workers."""

    released: tuple[TaskId, ...]
    in_flight: tuple[TaskId, ...]


def release(
    connection: Connection, task_ids: Sequence[TaskId], release: Release, *, now: datetime
) -> Released:
    """Give claims up where nothing is in flight; what is not this core's is left out."""
    found = rows(
        connection,
        "release_tasks",
        {
            "task_ids": list(task_ids),
            "core_id": release.core_id,
            "reason": release.why,
            "asked_by": release.by,
            "expires_at": release.until,
            "now": now,
        },
    )
    return Released(
        released=tuple(sorted(row.task_id for row in found if row.released)),
        in_flight=tuple(sorted(row.task_id for row in found if not row.released)),
    )
