"""What people decide, written down: steps and tasks along their arrows, dead letters closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from tasker_zmq.domain.ids import CoreId, StepId, TaskId
from tasker_zmq.domain.states import StepEvent, StepState, TaskState
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.store.reads.dead_letters import LetterFilter, joined
from tasker_zmq.store.statements import Row, rows, run
from tasker_zmq.store.steps import ReadyStep, ready_step
from tasker_zmq.store.tables import DeadLetter, DeadLetterStatus


@dataclass(frozen=True, kw_only=True)
class StepMoves:
    """Steps that all go along arrows of one event; `results` and `metadata` are JSON text."""

    step_ids: Sequence[StepId]
    from_states: Sequence[StepState]
    to_state: StepState
    event: StepEvent
    results: str
    metadata: str


@dataclass(frozen=True, kw_only=True)
class TasksAfter:
    """What followed for the tasks: `blocked` ones have a failure and must be looked at.

    `taken` says whether this core took any of them over from another.
    """

    task_ids: tuple[TaskId, ...]
    blocked: tuple[TaskId, ...]
    finished: tuple[TaskId, ...]
    taken: bool


@dataclass(frozen=True, kw_only=True)
class Closing:
    """How dead letters are closed, by whom and why."""

    status: DeadLetterStatus
    by: str
    why: str


def load_steps(
    connection: Connection,
    step_ids: Sequence[int],
    *,
    core_id: CoreId,
    command_id: str,
    now: datetime,
) -> Sequence[Row]:
    """Steps with what decides about them, locked; those that are not there are left out."""
    values = {"step_ids": list(step_ids), "core_id": core_id, "command_id": command_id, "now": now}
    return rows(connection, "load_controlled_steps", values)


def move_steps(
    connection: Connection, moves: StepMoves, *, core_id: CoreId, now: datetime
) -> TasksAfter:
    """Move the steps and carry the consequences; raises StaleWriteError unless all moved."""
    returned = rows(
        connection,
        "control_steps",
        {
            "step_ids": list(moves.step_ids),
            "from_states": [state.value for state in moves.from_states],
            "to_state": moves.to_state.value,
            "event": moves.event.value,
            "results": moves.results,
            "metadata": moves.metadata,
            "core_id": core_id,
            "now": now,
        },
    )
    moved = [row for row in returned if row.kind == "moved"]
    if len(moved) != len(moves.step_ids):
        raise StaleWriteError(f"{len(moves.step_ids)} steps were to move, {len(moved)} did")
    tasks = [row for row in returned if row.kind == "task"]
    finished = [row.task_id for row in tasks if row.task_state == TaskState.COMPLETE]
    return TasksAfter(
        task_ids=tuple(row.task_id for row in tasks),
        blocked=tuple(
            row.task_id for row in tasks if row.failed_steps and row.task_id not in finished
        ),
        finished=tuple(finished),
        taken=any(row.taken for row in tasks),
    )


def viable_of(
    connection: Connection,
    task_ids: Sequence[TaskId],
    *,
    core_id: CoreId,
    now: datetime,
    at_most: int,
) -> list[ReadyStep]:
    """Steps of these tasks that this core may send now, the oldest first."""
    values = {"task_ids": list(task_ids), "core_id": core_id, "now": now, "at_most": at_most}
    return [ready_step(row) for row in rows(connection, "viable_steps_of_tasks", values)]


def load_tasks(
    connection: Connection, task_ids: Sequence[int], *, core_id: CoreId, now: datetime
) -> Sequence[Row]:
    """Tasks with what decides about them, locked; those that are not there are left out."""
    values = {"task_ids": list(task_ids), "core_id": core_id, "now": now}
    return rows(connection, "load_controlled_tasks", values)


def cancel_tasks(
    connection: Connection,
    task_ids: Sequence[int],
    *,
    from_states: Sequence[TaskState],
    metadata: str,
    now: datetime,
) -> None:
    """End tasks; their steps are another statement's, a page at a time."""
    values = {
        "task_ids": list(task_ids),
        "from_states": [state.value for state in from_states],
        "metadata": metadata,
        "now": now,
    }
    rows(connection, "cancel_tasks", values)


def pause_tasks(
    connection: Connection,
    task_ids: Sequence[int],
    *,
    paused: bool,
    core_id: CoreId,
    now: datetime,
) -> None:
    """Hold open tasks up, or let them go on under this core."""
    values = {"task_ids": list(task_ids), "paused": paused, "core_id": core_id, "now": now}
    run(connection, "pause_tasks", values)


def steps_of(
    connection: Connection,
    task_ids: Sequence[int],
    *,
    states: Sequence[StepState],
    after: int,
    at_most: int,
) -> Sequence[Row]:
    """One page of the tasks' steps in these states, with the batch and session of each."""
    values = {
        "task_ids": list(task_ids),
        "states": [state.value for state in states],
        "after_step_id": after,
        "at_most": at_most,
    }
    return rows(connection, "steps_of_tasks", values)


def newest_letter(connection: Connection) -> int:
    """The highest id of a dead letter; 0 when there is none."""
    return connection.execute(select(func.max(DeadLetter.dead_letter_id))).scalar() or 0


def load_letters(connection: Connection, dead_letter_ids: Sequence[int]) -> Sequence[Row]:
    """Letters with these ids, in order and locked."""
    chosen = _letter_columns().where(DeadLetter.dead_letter_id == func.any(list(dead_letter_ids)))
    return _locked(connection, chosen, at_most=len(dead_letter_ids))


def load_matching_letters(
    connection: Connection, wanted: LetterFilter, *, after: int, up_to: int, at_most: int
) -> Sequence[Row]:
    """Letters that match, behind `after` and not above `up_to`, in order and locked."""
    chosen = joined(_letter_columns(), wanted).where(
        DeadLetter.dead_letter_id > after, DeadLetter.dead_letter_id <= up_to
    )
    return _locked(connection, chosen, at_most=at_most)


def _letter_columns() -> Any:
    return select(DeadLetter.dead_letter_id, DeadLetter.workflow_step_id, DeadLetter.status)


def _locked(connection: Connection, chosen: Any, *, at_most: int) -> Sequence[Row]:
    page = chosen.order_by(DeadLetter.dead_letter_id).limit(at_most)
    found: Sequence[Row] = connection.execute(
        page.with_for_update(of=DeadLetter, key_share=True)
    ).all()
    return found


def close_letters(
    connection: Connection,
    closing: Closing,
    *,
    step_ids: Sequence[int] = (),
    dead_letter_ids: Sequence[int] = (),
    now: datetime,
) -> list[int]:
    """Close the open letters with these ids or of these steps; returns their ids."""
    named = or_(
        DeadLetter.workflow_step_id == func.any(list(step_ids)),
        DeadLetter.dead_letter_id == func.any(list(dead_letter_ids)),
    )
    closed = (
        update(DeadLetter)
        .where(named, DeadLetter.status == DeadLetterStatus.OPEN)
        .values(
            status=closing.status.value,
            decided_by=closing.by,
            decision_reason=closing.why,
            decided_at=now,
        )
        .returning(DeadLetter.dead_letter_id)
    )
    return sorted(connection.execute(closed).scalars())
