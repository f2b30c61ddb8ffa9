"""Steps that somebody wants sent to one worker, as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from tasker_zmq.domain.directing import DirectedStep
from tasker_zmq.domain.ids import StepId
from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.store.statements import Row, rows
from tasker_zmq.store.steps import ReadyStep, ready_step


@dataclass(frozen=True)
class Found:
    """A step as it stands, and as dispatch would have it if it may be sent."""

    step: DirectedStep
    ready: ReadyStep


def load(connection: Connection, step_ids: Sequence[StepId], *, now: datetime) -> list[Found]:
    """The steps that there are, by their ids; nothing is locked."""
    values = {"step_ids": list(step_ids), "now": now}
    return [
        Found(_directed(row), ready_step(row))
        for row in rows(connection, "load_directed_steps", values)
    ]


def _directed(row: Row) -> DirectedStep:
    return DirectedStep(
        step_id=row.step_id,
        name=row.name,
        state=StepState(row.state),
        parents=tuple(row.parents),
        next_attempt_at=row.next_attempt_at,
        worker=row.worker,
        task_id=row.task_id,
        task_state=TaskState(row.task_state),
        paused=row.paused,
        scheduled_for=row.scheduled_for,
        core_id=row.core_id,
        core_alive=row.core_alive,
    )
