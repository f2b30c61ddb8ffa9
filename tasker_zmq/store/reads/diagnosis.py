"""What a daemon's health is told by rows: each look bounded in the rows that it reads."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from tasker_zmq.store.reads import health
from tasker_zmq.store.reads.analytics.system import COUNTS, SUMS

COUNTED_MAX: Final = 10_000
READY_MAX: Final = 10_000
TASKS_LOOKED_AT: Final = 1_000
SESSIONS_MAX: Final = 200
TABLES_SHOWN: Final = 5

# Of the first open tasks in the order in which cores take them.
_OLDEST_READY: Final = text(
    """
SELECT min(greatest(s.created_at, t.requested_at, s.next_attempt_at)) FROM (
    SELECT task_id, requested_at FROM tasker_tasks
    WHERE completed_at IS NULL AND state IN ('pending', 'in_progress') AND NOT paused
      AND (scheduled_for IS NULL OR scheduled_for <= CAST(:now AS timestamptz))
    ORDER BY processing_core_id, (- priority), task_id LIMIT :tasks
) t JOIN tasker_workflow_steps s USING (task_id)
WHERE s.state = 'pending' AND s.unfinished_parents = 0
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= CAST(:now AS timestamptz))
"""
)
_READY: Final = text(
    "SELECT count(*) FROM get_ready_tasks_for_processing(:at_most, CAST(:now AS timestamptz))"
)
_SUBMISSIONS: Final = text(
    "SELECT count(*) FROM (SELECT 1 FROM tasker_submissions WHERE refused_at IS NULL "
    "AND due_at <= CAST(:now AS timestamptz) LIMIT :rows_max) s"
)
_SESSIONS: Final = text(
    """
SELECT w.worker_name AS worker, r.session_id, r.core_id, r.status, r.current_load, r.credit,
    r.last_heartbeat_at
FROM tasker_worker_registrations r JOIN tasker_workers w USING (worker_id)
JOIN tasker_cores c ON c.core_id = r.core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
WHERE r.unregistered_at IS NULL ORDER BY r.last_heartbeat_at, r.session_id LIMIT :at_most
"""
)
_DEAD_ROWS: Final = text(
    """
SELECT relname AS "table", n_dead_tup AS dead, n_live_tup AS live,
    greatest(last_vacuum, last_autovacuum) AS vacuumed_at
FROM pg_stat_user_tables WHERE relname LIKE 'tasker%' AND n_dead_tup > 0
ORDER BY n_dead_tup DESC LIMIT :at_most
"""
)


def bound(connection: Connection, *, seconds: float) -> None:
    """For this transaction: no statement takes longer."""
    connection.execute(
        text("SELECT set_config('statement_timeout', :limit, true)"),
        {"limit": f"{int(seconds * 1_000)}ms"},
    )


def touch(connection: Connection) -> None:
    """A round trip."""
    connection.execute(text("SELECT 1"))


def backlog(connection: Connection, *, now: datetime) -> dict[str, Any]:
    """What waits, each counted up to COUNTED_MAX; ages in seconds, None when nothing waits."""
    values = {"now": now, "rows_max": COUNTED_MAX}

    def run(statement: str) -> Any:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        return connection.execute(text(statement), used)

    oldest = connection.execute(_OLDEST_READY, {"now": now, "tasks": TASKS_LOOKED_AT}).scalar()
    return {
        "tasks_open": {row.what: row.rows for row in run(COUNTS["tasks_open"])},
        "batches_open": {row.what: row.rows for row in run(COUNTS["batches_open"])},
        "sessions_by_status": {row.what: row.rows for row in run(COUNTS["sessions"])},
        "steps_waiting_for_retry": run(SUMS["steps_waiting_for_retry"]).scalar_one(),
        "dead_letters_open": run(SUMS["dead_letters_open"]).scalar_one(),
        "submissions_due": connection.execute(_SUBMISSIONS, values).scalar_one(),
        "oldest_ready_step_seconds": None
        if oldest is None
        else round((now - oldest) / timedelta(seconds=1), 3),
    }


def cores(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """Each core with the seconds that are left of its lease; negative: it is over."""
    return [
        {
            "core_id": core["core_id"],
            "alive": core["alive"],
            "epoch": core["epoch"],
            "draining": core["draining"],
            "lease_seconds_left": round((core["lease_expires_at"] - now) / timedelta(seconds=1), 3),
        }
        for core in health.cores(connection, now=now)
    ]


def weeks_ahead(connection: Connection, *, now: datetime) -> Mapping[str, int]:
    """Weeks in a row, this one first, for which each partitioned table has a partition."""
    return health.weeks_ahead(connection, now=now)


def dead_rows(connection: Connection) -> list[dict[str, Any]]:
    """The tables with the most rows that wait for a vacuum, by the server's own statistics."""
    found = connection.execute(_DEAD_ROWS, {"at_most": TABLES_SHOWN})
    return [dict(row) for row in found.mappings()]


def sessions(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """Connected sessions, those first that were silent the longest; at most SESSIONS_MAX."""
    found = connection.execute(_SESSIONS, {"now": now, "at_most": SESSIONS_MAX})
    return [dict(row) for row in found.mappings()]


def ready_tasks(connection: Connection, *, now: datetime) -> int:
    """Tasks with a step that may be sent now, counted up to READY_MAX."""
    values = {"at_most": READY_MAX, "now": now}
    return int(connection.execute(_READY, values).scalar_one())
