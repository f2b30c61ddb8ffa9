"""What the daemon recorded, counted in its database; the demo has that database to itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, case, extract, func, select
from sqlalchemy.orm import InstrumentedAttribute

from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.states import OPEN_TASK_STATES
from tasker_zmq.store.reads.invariants import INVARIANTS, Violation, check_invariants
from tasker_zmq.store.tables import (
    Batch,
    BatchStep,
    Discrepancy,
    ReceivedResult,
    Registration,
    RegistrationStatus,
    Task,
    WorkflowStep,
)

PRICING_STEP = "validate_order"
SOUND_VERDICTS = ("applied", "noted", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far the work is: tasks by state, steps by name and state."""

    tasks: Mapping[str, int]
    steps: Mapping[tuple[str, str], int]
    retries: int

    @property
    def open_tasks(self) -> int:
        return sum(self.tasks.get(state, 0) for state in OPEN_TASK_STATES)

    @property
    def ended_tasks(self) -> int:
        return sum(self.tasks.values()) - self.open_tasks


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The outcome in numbers; latencies run from a step's dispatch to its recorded end."""

    tasks: Mapping[str, int]
    steps: Mapping[str, int]
    retries: int
    batches: int
    reconciliation: Mapping[str, int]
    discrepancies: int
    ledger: Mapping[str, int]
    odd_messages: Mapping[str, int]
    seconds: float
    p50_ms: float
    p95_ms: float
    violated: Sequence[Violation]
    checked: int
    states: Mapping[str, str]  # order id: the state of its task
    totals: Mapping[str, int]  # order id: cents

    @property
    def consistent(self) -> bool:
        """Whether partial results and completion agree in every batch."""
        others = {status for status, count in self.reconciliation.items() if count}
        return others <= {ReconciliationStatus.CONSISTENT.value} and not self.discrepancies

    @property
    def steps_per_second(self) -> float:
        ended = self.steps.get("complete", 0) + self.steps.get("error", 0)
        return ended / self.seconds if self.seconds > 0 else 0.0


def connected_workers(connection: Connection) -> int:
    """How many sessions are registered and not gone."""
    gone = Registration.status == RegistrationStatus.DISCONNECTED.value
    return int(
        connection.execute(select(func.count()).select_from(Registration).where(~gone)).scalar_one()
    )


def read_standing(connection: Connection) -> Standing:
    """How far the work is."""
    steps = connection.execute(
        select(WorkflowStep.name, WorkflowStep.state, func.count()).group_by(
            WorkflowStep.name, WorkflowStep.state
        )
    )
    return Standing(
        tasks=_counted(connection, Task.state),
        steps={(name, state): count for name, state, count in steps},
        retries=_retries(connection),
    )


def unsettled_batches(connection: Connection) -> int:
    """How many batches still wait for their completion or their reconciliation."""
    pending = Batch.reconciliation_status == ReconciliationStatus.PENDING.value
    return int(
        connection.execute(select(func.count()).select_from(Batch).where(pending)).scalar_one()
    )


def read_figures(connection: Connection) -> Figures:
    """Everything that the summary says."""
    spent = _spent(connection)
    verdicts = _counted(connection, ReceivedResult.verdict)
    identities = connection.execute(select(Task.identity, Task.state)).all()
    return Figures(
        tasks=_counted(connection, Task.state),
        steps=_counted(connection, WorkflowStep.state),
        retries=_retries(connection),
        batches=_count(connection, Batch),
        reconciliation=_counted(connection, Batch.reconciliation_status),
        discrepancies=_count(connection, Discrepancy),
        ledger=_counted(connection, ReceivedResult.message_type),
        odd_messages={each: n for each, n in verdicts.items() if each not in SOUND_VERDICTS},
        seconds=float(spent.seconds or 0),
        p50_ms=float(spent.p50 or 0) * 1_000,
        p95_ms=float(spent.p95 or 0) * 1_000,
        violated=tuple(check_invariants(connection)),
        checked=len(INVARIANTS),
        states={str(identity): state for identity, state in identities},
        totals=_totals(connection),
    )


def _counted(connection: Connection, column: InstrumentedAttribute[str]) -> dict[str, int]:
    rows = connection.execute(select(column, func.count()).group_by(column).order_by(column))
    return {str(name): int(count) for name, count in rows}


def _count(connection: Connection, table: type[object]) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _retries(connection: Connection) -> int:
    """Sendings after a first one that failed; a lost sending is repeated, not retried."""
    repeated = func.coalesce(func.sum(case((BatchStep.attempt > 0, 1), else_=0)), 0)
    return int(connection.execute(select(repeated)).scalar_one())


def _spent(connection: Connection) -> Row[tuple[float, float, float]]:
    took = extract("epoch", WorkflowStep.finished_at - WorkflowStep.started_at)
    whole = extract("epoch", func.max(WorkflowStep.finished_at) - func.min(Task.requested_at))
    return connection.execute(
        select(
            whole.label("seconds"),
            func.percentile_cont(0.5).within_group(took).label("p50"),
            func.percentile_cont(0.95).within_group(took).label("p95"),
        )
        .join(Task, Task.task_id == WorkflowStep.task_id)
        .where(WorkflowStep.finished_at.is_not(None))
    ).one()


def _totals(connection: Connection) -> dict[str, int]:
    rows = connection.execute(
        select(Task.identity, WorkflowStep.results)
        .join(Task, Task.task_id == WorkflowStep.task_id)
        .where(WorkflowStep.name == PRICING_STEP, WorkflowStep.state == "complete")
    )
    return {str(identity): int(results["total_cents"]) for identity, results in rows}
