"""What the engine recorded, read for comparison with what was submitted and what steps wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from tasker_zmq.store.reads.invariants import Violation, check_invariants

_STEPS = text("""
SELECT s.workflow_step_id AS step_id, s.task_id, s.name, s.state, s.losses,
    s.results ->> 'run' AS run,
    (SELECT count(*) FROM tasker_step_execution_batch_steps bs
        JOIN tasker_step_execution_batch_received_results r ON r.batch_step_id = bs.id
        WHERE bs.workflow_step_id = s.workflow_step_id AND r.message_type = 'partial_result'
            AND r.verdict = 'applied' AND r.status = 'completed') AS successes_applied,
    (SELECT string_agg(DISTINCT d.reason, ', ') FROM tasker_dead_letters d
        WHERE d.workflow_step_id = s.workflow_step_id) AS dead_letters
FROM tasker_workflow_steps s ORDER BY s.workflow_step_id""")
_TASKS = text("SELECT task_id, identity, state FROM tasker_tasks ORDER BY task_id")
_APPLIED_AT = text("""
SELECT extract(epoch FROM processed_at) AS at
FROM tasker_step_execution_batch_received_results
WHERE verdict = 'applied' ORDER BY processed_at""")
_OPEN = text("""
SELECT count(*) FROM tasker_tasks t
WHERE t.state IN ('pending', 'in_progress') AND NOT EXISTS (
    SELECT 1 FROM tasker_workflow_steps s
    WHERE s.task_id = t.task_id AND s.state = 'in_doubt')""")
_STANDING = text("""
SELECT (SELECT count(*) FROM tasker_tasks) AS tasks,
    (SELECT count(*) FROM tasker_workflow_steps WHERE state = 'complete') AS complete""")


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A step as it is recorded; `run` is the token in its result."""

    step_id: int
    task_id: int
    name: str
    state: str
    losses: int
    run: str | None
    successes_applied: int
    dead_letters: str | None


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """A task as it is recorded."""

    task_id: int
    identity: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Records:
    """All of it; `applied_at` are seconds since 1970, in order."""

    tasks: Sequence[TaskRecord]
    steps: Sequence[StepRecord]
    applied_at: Sequence[float]
    violated: Sequence[Violation]

    @property
    def steps_by_task(self) -> Mapping[int, Mapping[str, StepRecord]]:
        found: dict[int, dict[str, StepRecord]] = {}
        for each in self.steps:
            found.setdefault(each.task_id, {})[each.name] = each
        return found


def read_records(connection: Connection) -> Records:
    """Everything at one moment; the load's database is small enough for that."""
    return Records(
        tasks=[TaskRecord(**row) for row in _rows(connection, _TASKS)],
        steps=[StepRecord(**row) for row in _rows(connection, _STEPS)],
        applied_at=[float(each) for each in connection.execute(_APPLIED_AT).scalars()],
        violated=check_invariants(connection),
    )


def open_tasks(connection: Connection) -> int:
    """How many tasks have not ended, but for those that wait for a person."""
    return int(connection.execute(_OPEN).scalar_one())


def standing(connection: Connection) -> tuple[int, int]:
    """How many tasks there are, and how many complete steps."""
    row = connection.execute(_STANDING).one()
    return int(row.tasks), int(row.complete)


def _rows(connection: Connection, statement: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(statement).mappings()]
