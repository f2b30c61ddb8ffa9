"""Tasks with steps that may be sent now, with their owners; and the locks between cores."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, text

from tasker_zmq.store.tables import CoordinationLock

_READY: Final = text(
    """
SELECT r.task_id, r.namespace || '/' || r.name || '@' || r.version AS workflow, r.priority,
    r.ready_steps, r.requested_at, t.processing_core_id AS core_id, t.claimed_at,
    coalesce(c.lease_expires_at > CAST(:now AS timestamptz), false) AS core_alive
FROM get_ready_tasks_for_processing(:at_most, CAST(:now AS timestamptz)) r
JOIN tasker_tasks t USING (task_id)
LEFT JOIN tasker_cores c ON c.core_id = t.processing_core_id
ORDER BY r.priority DESC, r.task_id
"""
)
_HELD: Final = text(
    """
SELECT c.core_id, (SELECT count(*) FROM (
        SELECT 1 FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.processing_core_id = c.core_id
        LIMIT :counted_max) owned) AS tasks_held,
    (SELECT count(*) FROM tasker_worker_registrations r
        WHERE r.core_id = c.core_id AND r.unregistered_at IS NULL) AS sessions
FROM tasker_cores c
"""
)
COUNTED_MAX: Final = 100_000


def ready_tasks(connection: Connection, *, at_most: int, now: datetime) -> list[dict[str, Any]]:
    """The most urgent first, then the oldest."""
    found = connection.execute(_READY, {"at_most": at_most, "now": now})
    return [dict(row) for row in found.mappings()]


def held(connection: Connection) -> dict[str, dict[str, Any]]:
    """By core: the open tasks that it owns (up to COUNTED_MAX) and its open sessions."""
    found = connection.execute(_HELD, {"counted_max": COUNTED_MAX})
    return {row.core_id: dict(row._mapping) for row in found}  # noqa: SLF001 - SQLAlchemy's own name


def locks(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """Named locks with their owners; one whose time is over is free."""
    chosen = select(
        CoordinationLock.lock_name,
        CoordinationLock.owner_core_id,
        CoordinationLock.owner_epoch,
        (CoordinationLock.expires_at > now).label("held"),
        CoordinationLock.acquired_at,
        CoordinationLock.expires_at,
    ).order_by(CoordinationLock.lock_name)
    return [dict(row) for row in connection.execute(chosen).mappings()]
