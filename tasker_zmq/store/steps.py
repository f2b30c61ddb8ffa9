"""Steps and their tasks: loading what results name, applying outcomes, creating, sweeping."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from tasker_zmq.domain.ids import BatchId, CoreId, NamedStepId, NamedTaskId, StepId, TaskId
from tasker_zmq.domain.states import StepEvent, StepState
from tasker_zmq.store.ledger import NOTHING_RECEIVED, Recording
from tasker_zmq.store.statements import Row, rows, run, send


class Move(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step along one arrow; `results` and `error` are JSON text."""

    step_id: StepId
    from_state: StepState
    to_state: StepState
    event: StepEvent
    results: str | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None
    worker_name: str | None = None
    uncharged: int = 0  # attempts given back
    lost: int = 0  # losses added
    unheard: bool = False  # its batch ended without a word about it
    carried_in: BatchId | None = None  # the batch in which memory has it; None: it is locked


class ReadyStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step that may be sent now."""

    step_id: StepId
    task_id: TaskId
    named_task_id: NamedTaskId
    named_step_id: NamedStepId
    priority: int
    attempts: int
    retry_limit: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What followed from moves: `blocked` tasks have a failure and must be looked at.

    `elsewhere` are other cores' tasks in which steps became ready, or wait to be tried again: those
    cores are to be told.
    """

    ready: tuple[ReadyStep, ...] = ()
    blocked: tuple[TaskId, ...] = ()
    finished: tuple[TaskId, ...] = ()
    elsewhere: tuple[tuple[CoreId, TaskId], ...] = ()


class NewTask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task to be created, with `step_count` steps; `context` is JSON text."""

    task_id: TaskId
    named_task_id: NamedTaskId
    step_count: int
    context: str
    identity: str | None
    priority: int
    tags: str
    initiator: str | None
    source_system: str | None
    reason: str | None
    correlation_id: str | None
    scheduled_for: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimedScheduled:
    """Tasks that are this core's now, and the steps with which they begin, or go on."""

    task_ids: frozenset[TaskId]
    ready: tuple[ReadyStep, ...]


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """How the steps of one task stand."""

    running: int
    waiting: int
    ready: int
    in_doubt: int
    failed: int = field(default=0)


def ready_step(row: Row) -> ReadyStep:
    """A row of a statement that finds or makes steps that may be sent."""
    return ReadyStep(
        step_id=row.step_id,
        task_id=row.task_id,
        named_task_id=row.named_task_id,
        named_step_id=row.named_step_id,
        priority=row.priority,
        attempts=row.attempts,
        retry_limit=row.retry_limit,
        created_at=row.step_created_at,
    )


def _in_order(ready: Iterable[ReadyStep]) -> tuple[ReadyStep, ...]:
    """Oldest first: what a statement returns comes in the order of its plan."""
    return tuple(sorted(ready, key=lambda step: step.step_id))


def load_named(
    connection: Connection, *, batch_uuids: Sequence[str], step_ids: Sequence[int | None]
) -> Sequence[Row]:
    """Batches and steps by the pairs that messages name, locked; unknown batches are left out."""
    return rows(
        connection,
        "load_named_steps",
        {"batch_uuids": list(batch_uuids), "step_ids": list(step_ids)},
    )


def apply(
    connection: Connection,
    moves: Sequence[Move],
    recording: Recording = NOTHING_RECEIVED,
    *,
    now: datetime,
) -> Moved:
    """Move the steps, carry the consequences, record what was received.

    Raises StaleWriteError unless all of the steps moved.
    """
    if not moves and recording is NOTHING_RECEIVED:
        return Moved()
    returned = rows(connection, "apply_results", _outcomes(moves, recording, now=now))
    return Moved(
        ready=_in_order(
            ready_step(row) for row in returned if row.kind == "ready" and row.elsewhere is None
        ),
        elsewhere=tuple(
            (row.elsewhere, row.task_id)
            for row in returned
            if row.kind in {"ready", "postponed"} and row.elsewhere is not None
        ),
        blocked=tuple(row.task_id for row in returned if row.kind == "blocked"),
        finished=tuple(row.task_id for row in returned if row.kind == "finished"),
    )


def send_moves(
    connection: Connection,
    moves: Sequence[Move],
    recording: Recording,
    *,
    ready: int,
    now: datetime,
) -> Callable[[], tuple[TaskId, ...]]:
    """As `apply` when it is known that so many steps become ready, and that no task is held up.

    Returns at once what tells after the commit which tasks are over. If anything else would follow,
    whoever waits or commits meets StaleWriteError.
    """
    values = _outcomes(moves, recording, now=now, foreseen=ready)
    pending = send(connection, "apply_results", values)
    return lambda: tuple(row.task_id for row in pending.rows if row.kind == "finished")


def _outcomes(
    moves: Sequence[Move], recording: Recording, *, now: datetime, foreseen: int | None = None
) -> dict[str, Any]:
    return {**_moves(moves), **recording.values(), "now": now, "foreseen": foreseen}


def _moves(moves: Sequence[Move]) -> dict[str, list[Any]]:
    return {
        "step_ids": [move.step_id for move in moves],
        "from_states": [move.from_state.value for move in moves],
        "to_states": [move.to_state.value for move in moves],
        "events": [move.event.value for move in moves],
        "results": [move.results for move in moves],
        "errors": [move.error for move in moves],
        "next_attempts": [move.next_attempt_at for move in moves],
        "worker_names": [move.worker_name for move in moves],
        "uncharged": [move.uncharged for move in moves],
        "lost": [move.lost for move in moves],
        "unheard": [move.unheard for move in moves],
        "carried_in": [move.carried_in for move in moves],
    }


def counts(connection: Connection, task_ids: Sequence[TaskId]) -> dict[TaskId, StepCounts]:
    """How the steps of these tasks stand."""
    return {
        row.task_id: StepCounts(
            running=row.running,
            waiting=row.waiting,
            ready=row.ready,
            in_doubt=row.in_doubt,
            failed=row.failed,
        )
        for row in rows(connection, "count_task_steps", {"task_ids": list(task_ids)})
    }


def fail_tasks(connection: Connection, task_ids: Sequence[TaskId], *, now: datetime) -> int:
    """End tasks in which nothing can proceed; returns how many."""
    return len(rows(connection, "fail_tasks", {"task_ids": list(task_ids), "now": now}))


def create(
    connection: Connection,
    tasks: Sequence[NewTask],
    step_ids: Sequence[int],
    *,
    core_id: CoreId,
    now: datetime,
    certain: bool = False,
) -> dict[TaskId, Sequence[int]]:
    """Create the tasks whose identity is free, owned by this core once their time has come.

    `step_ids` are fresh ids for the steps of all of them; those of a task that is not created are
    gaps. Returns the ids of the steps of each that was, in the order of its definition. `certain`:
    every identity must be free, and nobody waits to see it; if one is not, whoever waits or commits
    meets StaleWriteError.
    """
    ordered = sorted(tasks, key=lambda task: task.task_id)
    offsets = list(accumulate((task.step_count for task in ordered), initial=0))
    shares = {
        task.task_id: step_ids[start:end]
        for task, (start, end) in zip(ordered, pairwise(offsets), strict=True)
    }
    values = _creation(ordered) | {
        "offsets": offsets[:-1],
        "step_ids": list(step_ids[: offsets[-1]]),
        "core_id": core_id,
        "now": now,
        "certain": certain,
    }
    if certain:
        send(connection, "create_tasks", values)
        return shares
    returned = rows(connection, "create_tasks", values)
    return {row.task_id: shares[row.task_id] for row in returned if row.task_id is not None}


def _creation(tasks: Sequence[NewTask]) -> dict[str, object]:
    """Parameters of create_tasks: what each task is."""
    return {
        "task_ids": [task.task_id for task in tasks],
        "named_task_ids": [task.named_task_id for task in tasks],
        "contexts": [task.context for task in tasks],
        "identities": [task.identity for task in tasks],
        "priorities": [task.priority for task in tasks],
        "tags": [task.tags for task in tasks],
        "initiators": [task.initiator for task in tasks],
        "source_systems": [task.source_system for task in tasks],
        "reasons": [task.reason for task in tasks],
        "correlation_ids": [task.correlation_id for task in tasks],
        "scheduled_fors": [task.scheduled_for for task in tasks],
    }


def find_by_identity(
    connection: Connection, wanted: Sequence[tuple[NamedTaskId, str]]
) -> dict[tuple[NamedTaskId, str], TaskId]:
    """Tasks that already have these identities."""
    found = connection.execute(
        text(
            "SELECT t.named_task_id, t.identity, t.task_id "
            "FROM unnest(CAST(:named_task_ids AS bigint[]), CAST(:identities AS text[])) "
            "AS u(named_task_id, identity) JOIN tasker_tasks t USING (named_task_id, identity)"
        ),
        {
            "named_task_ids": [named_task_id for named_task_id, _ in wanted],
            "identities": [identity for _, identity in wanted],
        },
    )
    return {(row.named_task_id, row.identity): row.task_id for row in found}


def due_retries(
    connection: Connection, *, core_id: CoreId, now: datetime, at_most: int
) -> list[StepId]:
    """Waiting steps whose time has come, locked."""
    values = {"core_id": core_id, "now": now, "at_most": at_most}
    return [row.step_id for row in rows(connection, "retries_due", values)]


def next_retry(connection: Connection, *, core_id: CoreId) -> datetime | None:
    """When the next waiting step of this core's tasks is due."""
    found = rows(connection, "next_retry", {"core_id": core_id})
    return found[0].next_attempt_at if found else None


def claim(connection: Connection, *, core_id: CoreId, now: datetime, at_most: int) -> list[TaskId]:
    """Own open tasks that nobody living owns, but for those that this core left to others."""
    values = {"core_id": core_id, "now": now, "at_most": at_most}
    return [row.task_id for row in rows(connection, "claim_tasks", values)]


def claim_scheduled(
    connection: Connection, *, core_id: CoreId, now: datetime, at_most: int
) -> ClaimedScheduled:
    """Own tasks whose time has come and that nobody owns."""
    values = {"core_id": core_id, "now": now, "at_most": at_most}
    returned = rows(connection, "claim_scheduled", values)
    return ClaimedScheduled(
        task_ids=frozenset(row.task_id for row in returned),
        ready=_in_order(ready_step(row) for row in returned if row.step_id is not None),
    )


def next_scheduled(connection: Connection, *, now: datetime) -> datetime | None:
    """When the next task will be due that nobody owns until then."""
    found = rows(connection, "next_scheduled", {"now": now})
    return found[0].scheduled_for if found else None


def recent_durations(connection: Connection, *, at_most: int) -> dict[NamedTaskId, int]:
    """Milliseconds from request, or schedule, to completion: the median of the newest tasks."""
    found = rows(connection, "recent_durations", {"at_most": at_most})
    return {row.named_task_id: row.duration_ms for row in found}


def start_tasks(connection: Connection, task_ids: Sequence[TaskId], *, now: datetime) -> None:
    """Move pending tasks to in_progress without sending a step of theirs."""
    run(connection, "start_tasks", {"task_ids": list(task_ids), "now": now})


def states(connection: Connection, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
    """The states of these tasks."""
    found = rows(connection, "task_states", {"task_ids": list(task_ids)})
    return {row.task_id: row.state for row in found}
