"""Which worker knows which named task: associations made from what workers declare."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from tasker_zmq.domain.ids import NamedTaskId
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.supported import Declared
from tasker_zmq.store.statements import rows

_ASSOCIATE_ALL = text(
    "INSERT INTO tasker_worker_named_tasks "
    "(worker_id, named_task_id, configuration, priority, created_at, updated_at) "
    "SELECT DISTINCT ON (w.worker_id) w.worker_id, CAST(:named_task_id AS bigint), "
    "d.said->'configuration', CAST(d.said->>'priority' AS integer), "
    "CAST(:now AS timestamptz), CAST(:now AS timestamptz) "
    "FROM tasker_workers w CROSS JOIN LATERAL jsonb_array_elements(w.declared_tasks) d(said) "
    "WHERE d.said->>'namespace' = :namespace AND d.said->>'name' = :name "
    "AND d.said->>'version' IN (:version, '*') "
    "ORDER BY w.worker_id, d.said->>'version' = '*' "
    "ON CONFLICT (worker_id, named_task_id) DO NOTHING"
)


def associate(
    connection: Connection, worker_id: int, declared: Declared, *, now: datetime
) -> dict[NamedTaskId, TaskName]:
    """Keep which published tasks a worker knows; what it knew before and does not now is gone."""
    names = list(declared.tasks)
    found = rows(
        connection,
        "associate_worker",
        {
            "worker_id": worker_id,
            "namespaces": [each.namespace for each in names],
            "task_names": [each.name for each in names],
            "versions": [each.version for each in names],
            "configurations": [each.configuration.decode() for each in declared.tasks.values()],
            "priorities": [each.priority for each in declared.tasks.values()],
            "now": now,
        },
    )
    return {
        NamedTaskId(row.named_task_id): TaskName(row.namespace, row.name, row.version)
        for row in found
    }


def associate_workers(
    connection: Connection, named_task_id: NamedTaskId, task: TaskName, *, now: datetime
) -> None:
    """A named task is new: those workers that declared it before it was published know it."""
    connection.execute(
        _ASSOCIATE_ALL, {"named_task_id": named_task_id, **task._asdict(), "now": now}
    )


def coverage(
    connection: Connection, worker_id: int, named_task_ids: Sequence[NamedTaskId]
) -> dict[NamedTaskId, tuple[int, int]]:
    """Per named task: how many workers with a live session know it, and this worker's rank."""
    found = connection.execute(
        text(
            "SELECT a.named_task_id, count(*) AS workers, "
            "1 + count(*) FILTER (WHERE a.priority > mine.priority) AS rank "
            "FROM tasker_worker_named_tasks mine "
            "JOIN tasker_worker_named_tasks a USING (named_task_id) "
            "WHERE mine.worker_id = :worker_id "
            "AND mine.named_task_id = ANY(CAST(:named_task_ids AS bigint[])) "
            "AND EXISTS (SELECT 1 FROM tasker_worker_registrations r "
            "WHERE r.worker_id = a.worker_id AND r.status <> 'disconnected') "
            "GROUP BY a.named_task_id"
        ),
        {"worker_id": worker_id, "named_task_ids": list(named_task_ids)},
    )
    return {row.named_task_id: (row.workers, row.rank) for row in found}
