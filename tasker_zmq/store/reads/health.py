"""How everything stands, in numbers; and what the server itself says of its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from tasker_zmq.store.schema import PARTITIONED
from tasker_zmq.store.tables import (
    Batch,
    Core,
    DeadLetter,
    DeadLetterStatus,
    Discrepancy,
    ReceivedResult,
    Registration,
    RegistrationStatus,
    Task,
    WorkflowStep,
)

WEEKS_LOOKED_AT: Final = 5


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What a PostgreSQL server says of itself; `version` as in 170004."""

    version: int
    read_only: bool
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    clock: datetime


def counts(connection: Connection, *, now: datetime) -> dict[str, Any]:
    """How much there is of everything, by state; it reads whole tables."""
    retried = func.sum(func.greatest(WorkflowStep.attempts - 1, 0))
    lost = func.sum(WorkflowStep.losses)
    steps = connection.execute(
        select(func.coalesce(retried, 0).label("retries"), func.coalesce(lost, 0).label("losses"))
    ).one()
    open_letters = select(func.count()).where(DeadLetter.status == DeadLetterStatus.OPEN)
    sessions = (
        select(func.count())
        .join(Core, Core.core_id == Registration.core_id)
        .where(Registration.status != RegistrationStatus.DISCONNECTED, Core.lease_expires_at > now)
        .select_from(Registration)
    )
    return {
        "tasks": _by(connection, Task.state),
        "steps": _by(connection, WorkflowStep.state),
        "retries": int(steps.retries),
        "losses": int(steps.losses),
        "batches": _by(connection, Batch.state),
        "reconciliation": _by(connection, Batch.reconciliation_status),
        "discrepancies": _by(connection, Discrepancy.kind),
        "ledger": _by(connection, ReceivedResult.message_type),
        "verdicts": _by(connection, ReceivedResult.verdict),
        "open_dead_letters": connection.execute(open_letters).scalar_one(),
        "sessions": connection.execute(sessions).scalar_one(),
        "cores": sum(1 for core in cores(connection, now=now) if core["alive"]),
    }


def _by(connection: Connection, column: Any) -> dict[str, int]:
    chosen = select(column, func.count()).group_by(column).order_by(column)
    return {str(word): int(number) for word, number in connection.execute(chosen)}


def step_latency_ms(connection: Connection) -> dict[str, float] | None:
    """From sending to recording, of the attempts that completed: p50 and p95; None without any."""
    took = func.extract("epoch", WorkflowStep.finished_at - WorkflowStep.started_at) * 1000
    halves = [
        func.percentile_cont(share).within_group(took).label(name)
        for name, share in (("p50", 0.5), ("p95", 0.95))
    ]
    row = connection.execute(select(*halves).where(WorkflowStep.state == "complete")).one()
    return None if row.p50 is None else {"p50": float(row.p50), "p95": float(row.p95)}


def cores(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """The daemons that this database has known; `alive`: the lease has not ended."""
    chosen = select(
        Core.core_id,
        (Core.lease_expires_at > now).label("alive"),
        Core.epoch,
        Core.draining,
        Core.endpoints,
        Core.started_at,
        Core.lease_expires_at,
    ).order_by(Core.core_id)
    return [dict(row) for row in connection.execute(chosen).mappings()]


def server_facts(connection: Connection) -> ServerFacts:
    row = connection.execute(
        text(
            "SELECT CAST(current_setting('server_version_num') AS integer) AS version, "
            "pg_is_in_recovery() AS read_only, current_setting('fsync') AS fsync, "
            "current_setting('synchronous_commit') AS synchronous_commit, "
            "current_setting('full_page_writes') AS full_page_writes, clock_timestamp() AS clock"
        )
    ).one()
    return ServerFacts(
        version=row.version,
        read_only=row.read_only,
        fsync=row.fsync,
        synchronous_commit=row.synchronous_commit,
        full_page_writes=row.full_page_writes,
        clock=row.clock,
    )


def weeks_ahead(connection: Connection, *, now: datetime) -> Mapping[str, int]:
    """For each partitioned table the weeks in a row, this one first, that have a partition."""
    found = connection.execute(
        text(
            "SELECT parent, week, to_regclass(parent || to_char(date_trunc('week', "
            "CAST(:now AS timestamptz) AT TIME ZONE 'UTC') + week * interval '7 days', "
            '\'"_p"IYYY"w"IW\')) IS NOT NULL AS made '
            "FROM unnest(CAST(:parents AS text[])) AS parent, "
            "generate_series(0, CAST(:weeks AS integer) - 1) AS week ORDER BY parent, week"
        ),
        {"now": now, "parents": list(PARTITIONED), "weeks": WEEKS_LOOKED_AT},
    )
    weeks = dict.fromkeys(PARTITIONED, 0)
    for row in found:
        if row.made and weeks[row.parent] == row.week:
            weeks[row.parent] += 1
    return weeks
