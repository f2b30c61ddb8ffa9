"""QueryAnalytics: seven questions, answered from rows beside the engine, bounded in what is read.

Thin: which moments are meant, which filters say something, and rows into the answer's struct.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from tasker_zmq.commands.context import Observing
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.analytics import (
    RANGE_SECONDS_MAX,
    ROWS_SHOWN_MAX,
    AnalyticsKind,
    Answer,
    CommandAuditSummary,
    CommandLatency,
    QueryAnalytics,
    SystemHealth,
    TaskPerformance,
    TimeRange,
    WorkerEfficiency,
    WorkerLoadDistribution,
    WorkerTaskCompatibility,
)
from tasker_zmq.store.reads import analytics as reads
from tasker_zmq.store.reads.analytics import Found, Window

Read = Callable[[Connection, Window], Found]
FILTERS: Final = ("namespace", "name", "worker", "command_type")
_WORKFLOW: Final = ("namespace", "name")

_LISTS: Final[Mapping[AnalyticsKind, tuple[Read, type[Answer], tuple[str, ...]]]] = {
    AnalyticsKind.TASK_PERFORMANCE: (reads.task_performance, TaskPerformance, _WORKFLOW),
    AnalyticsKind.WORKER_EFFICIENCY: (reads.worker_efficiency, WorkerEfficiency, ("worker",)),
    AnalyticsKind.COMMAND_LATENCY: (reads.command_latency, CommandLatency, ("command_type",)),
    AnalyticsKind.WORKER_TASK_COMPATIBILITY: (
        reads.compatibility,
        WorkerTaskCompatibility,
        _WORKFLOW,
    ),
    AnalyticsKind.WORKER_LOAD_DISTRIBUTION: (
        reads.load_distribution,
        WorkerLoadDistribution,
        ("worker",),
    ),
    AnalyticsKind.COMMAND_AUDIT_SUMMARY: (
        reads.audit_summary,
        CommandAuditSummary,
        ("command_type",),
    ),
}


def query_analytics(observing: Observing, request: QueryAnalytics) -> Answer:
    """Answer one question; raises CommandRefusedError for a range or a filter that makes none."""
    window = _window(observing, request)
    with observing.connect() as connection:
        reads.look_widely(connection)
        if request.kind is AnalyticsKind.SYSTEM_HEALTH:
            counts, truncated = reads.system_health(connection, window)
            return _answer(SystemHealth, counts, window, truncated=truncated)
        read, kind, _ = _LISTS[request.kind]
        found = read(connection, window)
    fields: dict[str, Any] = {"rows": found.rows}
    if kind is WorkerLoadDistribution:
        fields["imbalance"] = imbalance([row["share"] for row in found.rows])
    return _answer(kind, fields, window, truncated=found.truncated)


def _answer(
    kind: type[Answer], fields: Mapping[str, Any], window: Window, *, truncated: bool
) -> Answer:
    told = {"since": window.since, "until": window.until, "truncated": truncated}
    tag = str(kind.__struct_config__.tag)
    return msgspec.convert({"kind": tag, **told, **fields}, kind, strict=False)


def imbalance(shares: list[float]) -> float | None:
    """The largest share over the mean one; None when nobody has any."""
    total = sum(shares)
    return round(max(shares) * len(shares) / total, 2) if total else None


def _window(observing: Observing, request: QueryAnalytics) -> Window:
    allowed = _LISTS[request.kind][2] if request.kind in _LISTS else ()
    given = {name: getattr(request, name) for name in FILTERS}
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise CommandRefusedError(
                "invalid",
                f"{request.kind} is not filtered by {name}",
                hint=f"its filters: {', '.join(allowed) or 'none'}",
            )
    asked = request.time_range or TimeRange()
    until = asked.until or observing.now
    if not 0 < request.last_seconds <= RANGE_SECONDS_MAX:
        raise CommandRefusedError(
            "invalid",
            f"last_seconds is {request.last_seconds:g}; wanted: above 0, at most 90 days",
        )
    since = asked.since or until - timedelta(seconds=request.last_seconds)
    if not timedelta(0) < until - since <= timedelta(seconds=RANGE_SECONDS_MAX):
        raise CommandRefusedError(
            "invalid",
            f"from {since.isoformat()} to {until.isoformat()} is no range of at most 90 days",
            hint="give time_range.from a moment before time_range.to",
        )
    return Window(
        since=since,
        until=until,
        now=observing.now,
        limit=max(1, min(request.limit, ROWS_SHOWN_MAX)),
        **given,
    )
