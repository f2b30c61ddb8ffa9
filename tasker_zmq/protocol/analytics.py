"""QueryAnalytics: seven questions about a stretch of time, each with an answer of its own shape.

An answer says what it covers. `truncated`: there was more than is read for one answer; the figures
are then those of the newest rows. Milliseconds are null where nothing was measured.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from tasker_zmq.domain.ids import SessionId

ROWS_SHOWN_MAX: Final = 1_000
RANGE_SECONDS_MAX: Final = 90 * 86_400.0

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class AnalyticsKind(StrEnum):
    """What is asked; also the `kind` of the answer."""

    TASK_PERFORMANCE = "TaskPerformance"
    WORKER_EFFICIENCY = "WorkerEfficiency"
    COMMAND_LATENCY = "CommandLatency"
    SYSTEM_HEALTH = "SystemHealth"
    WORKER_TASK_COMPATIBILITY = "WorkerTaskCompatibility"
    WORKER_LOAD_DISTRIBUTION = "WorkerLoadDistribution"
    COMMAND_AUDIT_SUMMARY = "CommandAuditSummary"


class TimeRange(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """From a moment to another, which is left out; either may be left open."""

    since: Moment | None = None
    until: Moment | None = None


class QueryAnalytics(msgspec.Struct, frozen=True, kw_only=True):
    """One question; filters that say nothing about its kind are refused."""

    kind: AnalyticsKind
    time_range: TimeRange | None = None
    last_seconds: float = 3_600.0  # up to now, unless there is a time_range
    namespace: str | None = None
    name: str | None = None  # of a workflow
    worker: str | None = None
    command_type: str | None = None
    limit: int = 50


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What all seven say of themselves."""

    since: datetime
    until: datetime
    truncated: bool = False


class WorkflowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow's tasks: those that ended in the range, and those that are open now."""

    workflow: str
    ended: int
    complete: int
    error: int
    cancelled: int
    open: int
    per_minute: float
    duration_ms_p50: float | None
    duration_ms_p95: float | None
    duration_ms_max: float | None


class TaskPerformance(Answer, frozen=True, kw_only=True, tag="TaskPerformance"):
    """Those with the most ended tasks first."""

    rows: tuple[WorkflowFigures, ...]


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's batches that were made in the range; `silent` steps ended without a word.

    Step times are those of its newest batches.
    """

    worker: str
    sessions: int
    batches: int
    steps: int
    completed: int
    failed: int
    silent: int
    open: int
    sent_again: int
    step_ms_p50: float | None
    step_ms_p95: float | None
    batch_ms_p50: float | None


class WorkerEfficiency(Answer, frozen=True, kw_only=True, tag="WorkerEfficiency"):
    """Those with the most steps first."""

    rows: tuple[WorkerFigures, ...]


class CommandFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How long one type of command took, from the audit."""

    command_type: str
    direction: str
    count: int
    ms_p50: float | None
    ms_p95: float | None
    ms_p99: float | None
    ms_max: float | None


class CommandLatency(Answer, frozen=True, kw_only=True, tag="CommandLatency"):
    """The slowest first, by their p95."""

    rows: tuple[CommandFigures, ...]


class CoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One core and how many open tasks it owns."""

    core_id: str
    alive: bool
    draining: bool
    tasks_open: int


class SystemHealth(Answer, frozen=True, kw_only=True, tag="SystemHealth"):
    """Counts by state: what is open now, and what ended or was received in the range."""

    cores: tuple[CoreFigures, ...]
    tasks_open: dict[str, int]
    tasks_ended: dict[str, int]
    batches_open: dict[str, int]
    batches_made: dict[str, int]
    steps_waiting_for_retry: int
    dead_letters_open: int
    sessions: dict[str, int]
    verdicts: dict[str, int]
    discrepancies: int


class Compatibility(msgspec.Struct, frozen=True, kw_only=True):
    """Who can run one workflow now; `missing` are handlers that no connected worker has."""

    workflow: str
    handlers: int
    missing: tuple[str, ...]
    whole: tuple[str, ...]
    in_part: tuple[str, ...]
    declared_by: tuple[str, ...]


class WorkerTaskCompatibility(Answer, frozen=True, kw_only=True, tag="WorkerTaskCompatibility"):
    """Workflows that somebody lacks handlers for first."""

    rows: tuple[Compatibility, ...]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One connected session: what it holds now, and its share of the range's steps."""

    worker: str
    session_id: SessionId
    core_id: str
    status: str
    credit: int
    current_load: int
    utilisation: float
    batches: int
    steps: int
    share: float


class WorkerLoadDistribution(Answer, frozen=True, kw_only=True, tag="WorkerLoadDistribution"):
    """The busiest first; `imbalance` is the largest share over the mean one, 1.0 when all equal."""

    imbalance: float | None
    rows: tuple[Load, ...]


class CommandCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a type of command went which way, and how that ended."""

    command_type: str
    direction: str
    outcome: str
    count: int
    cores: int
    workers: int
    last_at: datetime


class CommandAuditSummary(Answer, frozen=True, kw_only=True, tag="CommandAuditSummary"):
    """The most frequent first."""

    rows: tuple[CommandCount, ...]
