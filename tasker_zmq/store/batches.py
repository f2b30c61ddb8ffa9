"""Batches: loading what may be sent, writing what is sent, counting what came back, settling."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, text

from tasker_zmq.domain.ids import BatchId, CoreId, RegistrationId, SessionId, StepId, TaskId
from tasker_zmq.domain.states import BatchState
from tasker_zmq.store.statements import Row, rows, run, send
from tasker_zmq.store.tables import Discrepancy


class NewBatchStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step's place in a new batch; `sequence_order` counts from 1."""

    batch_step_id: int
    step_id: StepId
    batch_id: BatchId
    sequence_order: int
    handler_class: str
    attempts: int  # so far
    confirmed: bool = False  # it may begin without asking


class NewBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A batch about to be sent; `timeout_seconds` bounds the whole of it."""

    batch_id: BatchId
    batch_uuid: str
    task_id: TaskId | None
    handler_class: str | None
    registration_id: RegistrationId | None
    session_id: SessionId
    batch_size: int
    timeout_seconds: int
    publication: int


class BatchArrow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One transition of a batch; `last` marks the newest of those written together."""

    batch_id: BatchId
    sort_key: int
    from_state: BatchState
    to_state: BatchState
    event: str
    last: bool


class FormerAccount(msgspec.Struct, frozen=True, gc=False):
    """What memory has of a batch's row; it may not be locked."""

    transitions: int
    partials: int
    completion: bool
    session_id: SessionId


class BatchAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tick adds to one batch's row."""

    batch_id: BatchId
    partials: int
    completed: int
    failed: int
    completion: bool
    state: BatchState
    transitions: int
    published_at: datetime | None
    reconciliation_status: str
    former: FormerAccount | None = None  # None: the row is locked


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDifference:
    """One difference between a batch's accounts."""

    batch_id: BatchId
    step_id: StepId | None
    kind: str
    partial_says: str | None
    completion_says: str | None


def load_viable(
    connection: Connection, step_ids: Sequence[StepId], *, core_id: CoreId, now: datetime
) -> Sequence[Row]:
    """Those that may be sent, locked, with context and parents' results as JSON text."""
    return rows(
        connection,
        "load_viable_steps",
        {"step_ids": list(step_ids), "core_id": core_id, "now": now},
    )


def start(
    connection: Connection,
    batches: Sequence[NewBatch],
    steps: Sequence[NewBatchStep],
    *,
    core_id: CoreId,
    now: datetime,
) -> None:
    """Write the batches and move their steps; nobody waits for it.

    Whoever waits or commits meets StaleWriteError unless every step moved.
    """
    send(
        connection,
        "start_batches",
        {
            "step_ids": [step.step_id for step in steps],
            "step_batch_ids": [step.batch_id for step in steps],
            "orders": [step.sequence_order for step in steps],
            "handler_classes": [step.handler_class for step in steps],
            "attempts": [step.attempts for step in steps],
            "confirmed": [step.confirmed for step in steps],
            "batch_step_ids": [step.batch_step_id for step in steps],
            "batch_ids": [batch.batch_id for batch in batches],
            "batch_uuids": [batch.batch_uuid for batch in batches],
            "batch_task_ids": [batch.task_id for batch in batches],
            "batch_handlers": [batch.handler_class for batch in batches],
            "registration_ids": [batch.registration_id for batch in batches],
            "session_ids": [batch.session_id for batch in batches],
            "batch_sizes": [batch.batch_size for batch in batches],
            "timeouts": [batch.timeout_seconds for batch in batches],
            "publications": [batch.publication for batch in batches],
            "core_id": core_id,
            "now": now,
        },
    )


def expired(connection: Connection, batch_ids: Sequence[BatchId]) -> Sequence[Row]:
    """These batches with all their steps, locked, in the shape of `steps.load_named`.

    Each with its core, which may have become another while the lock was waited for.
    """
    return rows(connection, "expired_batches", {"batch_ids": list(batch_ids)})


def unsettled(
    connection: Connection, *, core_id: CoreId, after: BatchId, at_most: int
) -> Sequence[Row]:
    """Batches of this core that are open or not yet reconciled, in order of id."""
    values = {"core_id": core_id, "after_batch_id": after, "at_most": at_most}
    return rows(connection, "unsettled_batches", values)


def take_over(
    connection: Connection, *, core_id: CoreId, now: datetime, at_most: int
) -> Sequence[Row]:
    """Make unsettled batches of dead cores this core's own."""
    values = {"core_id": core_id, "now": now, "at_most": at_most}
    return rows(connection, "take_over_batches", values)


def load_accounts(connection: Connection, batch_ids: Sequence[BatchId]) -> Sequence[Row]:
    """Steps and ledger rows of these batches."""
    return rows(connection, "load_accounts", {"batch_ids": list(batch_ids)})


def settle(
    connection: Connection,
    statuses: Sequence[tuple[BatchId, str]],
    differences: Sequence[StoredDifference],
    *,
    now: datetime,
) -> None:
    """Store the reconciler's verdicts."""
    if not statuses:
        return
    run(
        connection,
        "settle_batches",
        {
            "batch_ids": [batch_id for batch_id, _ in statuses],
            "statuses": [status for _, status in statuses],
            "difference_batch_ids": [each.batch_id for each in differences],
            "difference_step_ids": [each.step_id for each in differences],
            "kinds": [each.kind for each in differences],
            "partials_say": [each.partial_says for each in differences],
            "completions_say": [each.completion_says for each in differences],
            "now": now,
        },
    )


def forget_differences(connection: Connection, batch_ids: Sequence[BatchId]) -> None:
    """Make room for a new comparison of batches that were compared before."""
    connection.execute(delete(Discrepancy).where(Discrepancy.batch_id.in_(batch_ids)))


def reserve_ids(connection: Connection, table: str, column: str, *, count: int) -> list[int]:
    """`count` fresh ids of an identity column; unused ones are gaps."""
    values = {"table": table, "column": column, "count": count}
    ids: list[int] = rows(connection, "reserve_ids", values)[0].ids
    return ids


def mark_published(
    connection: Connection, sent: Sequence[tuple[BatchId, datetime]], *, now: datetime
) -> None:
    """Move created batches to published, with the moment at which each went out."""
    run(
        connection,
        "mark_published",
        {
            "batch_ids": [batch_id for batch_id, _ in sent],
            "moments": [moment for _, moment in sent],
            "now": now,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Adopter:
    """A new session of a worker, and whose it is."""

    worker_id: int
    registration_id: RegistrationId
    session_id: SessionId
    core_id: CoreId
    instance: str | None  # of its process; of which it is this registration
    registrations: int


def adopt(
    connection: Connection, batch_uuids: Sequence[str], adopter: Adopter, *, now: datetime
) -> Sequence[Row]:
    """Give a worker's batches to its new session; returns them with the session they had.

    Not those that a later registration of the same process has taken: this one was read late.
    """
    values = {"batch_uuids": list(batch_uuids), **asdict(adopter), "now": now}
    return rows(connection, "adopt_batches", values)


def load_sent(connection: Connection, batch_ids: Sequence[BatchId]) -> Sequence[Row]:
    """What these batches carry that is still in progress, in order of batch."""
    return rows(connection, "load_sent_steps", {"batch_ids": list(batch_ids)})


def send_again(
    connection: Connection, sent: Sequence[tuple[BatchId, int, int]], *, now: datetime
) -> None:
    """Note delivery and publication number of batches that are published once more."""
    run(
        connection,
        "send_batches_again",
        {
            "batch_ids": [batch_id for batch_id, _, _ in sent],
            "deliveries": [delivery for _, delivery, _ in sent],
            "publications": [publication for _, _, publication in sent],
            "now": now,
        },
    )


def confirm_starts(
    connection: Connection,
    batch_uuid: str,
    step_ids: Sequence[StepId],
    *,
    session_id: SessionId,
    now: datetime,
) -> list[StepId]:
    """Those of the steps that the session may begin."""
    values = {
        "batch_uuid": batch_uuid,
        "step_ids": list(step_ids),
        "session_id": session_id,
        "now": now,
    }
    return [row.step_id for row in rows(connection, "confirm_starts", values)]


def steps_in_flight(connection: Connection, batch_ids: Sequence[BatchId]) -> Sequence[Row]:
    """Steps that these batches still have in progress, and the session that has them."""
    found = connection.execute(
        text(
            "SELECT bs.batch_id, b.batch_uuid::text AS batch_uuid, bs.workflow_step_id, "
            "b.session_id "
            "FROM tasker_step_execution_batches b "
            "JOIN tasker_step_execution_batch_steps bs USING (batch_id) "
            "JOIN tasker_workflow_steps s USING (workflow_step_id) "
            "WHERE bs.batch_id = ANY(CAST(:batch_ids AS bigint[])) "
            "AND s.state = 'in_progress' AND s.current_batch_id = bs.batch_id"
        ),
        {"batch_ids": list(batch_ids)},
    )
    return found.fetchall()
