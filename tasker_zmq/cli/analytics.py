"""`tasker-zmq analytics`: seven questions about the last hour, or any other, answered from rows."""

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.database import opened, read_clock
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.clock import SystemClock
from tasker_zmq.commands.analysing import query_analytics
from tasker_zmq.commands.context import Observing
from tasker_zmq.protocol.analytics import RANGE_SECONDS_MAX, AnalyticsKind, Answer, QueryAnalytics

KINDS: Final[Mapping[str, AnalyticsKind]] = {
    "tasks": AnalyticsKind.TASK_PERFORMANCE,
    "workers": AnalyticsKind.WORKER_EFFICIENCY,
    "load": AnalyticsKind.WORKER_LOAD_DISTRIBUTION,
    "compatibility": AnalyticsKind.WORKER_TASK_COMPATIBILITY,
    "commands": AnalyticsKind.COMMAND_LATENCY,
    "audit": AnalyticsKind.COMMAND_AUDIT_SUMMARY,
    "system": AnalyticsKind.SYSTEM_HEALTH,
}
_ANY: Final = {**KINDS, **{kind.value.lower(): kind for kind in AnalyticsKind}}
_COLUMNS: Final[Mapping[AnalyticsKind, tuple[str, ...]]] = {
    AnalyticsKind.TASK_PERFORMANCE: (
        "workflow", "ended", "complete", "error", "cancelled", "open", "per_minute",
        "duration_ms_p50", "duration_ms_p95", "duration_ms_max",
    ),
    AnalyticsKind.WORKER_EFFICIENCY: (
        "worker", "sessions", "batches", "steps", "completed", "failed", "silent", "open",
        "sent_again", "step_ms_p50", "step_ms_p95", "batch_ms_p50",
    ),
    AnalyticsKind.WORKER_LOAD_DISTRIBUTION: (
        "worker", "core_id", "status", "current_load", "credit", "utilisation", "batches", "steps",
        "share",
    ),
    AnalyticsKind.WORKER_TASK_COMPATIBILITY: (
        "workflow", "handlers", "missing", "whole", "in_part", "declared_by",
    ),
    AnalyticsKind.COMMAND_LATENCY: (
        "command_type", "direction", "count", "ms_p50", "ms_p95", "ms_p99", "ms_max",
    ),
    AnalyticsKind.COMMAND_AUDIT_SUMMARY: (
        "command_type", "direction", "outcome", "count", "cores", "workers", "last_at",
    ),
}  # fmt: skip


def _kind(ctx: click.Context, parameter: click.Parameter, value: str) -> AnalyticsKind:
    found = _ANY.get(value.lower())
    if found is None:
        wanted = f"wanted one of {', '.join(KINDS)}, found '{value}'"
        raise click.BadParameter(wanted, ctx, parameter)
    return found


@click.command()
@click.argument("kind", metavar="|".join(KINDS), callback=_kind)
@click.option(
    "--last", "last_seconds", default="1h", show_default=True, metavar="TIME", callback=seconds,
    help="How far to look back.",
)  # fmt: skip
@click.option("--namespace", help="Of workflows: with tasks and compatibility.")
@click.option("--name", help="Of a workflow: with tasks and compatibility.")
@click.option("--worker", help="With workers and load.")
@click.option("--type", "command_type", help="Of commands: with commands and audit.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@output_option
@click.pass_obj
def analytics(
    invocation: Invocation,
    /,
    *,
    kind: AnalyticsKind,
    last_seconds: float,
    output: Output,
    **more: Any,
) -> None:
    """Tell how tasks, workers and commands fared; the same as the command QueryAnalytics.

    It reads the database, never by whole tables, and works while the daemon is down.
    """
    if not 0 < last_seconds <= RANGE_SECONDS_MAX:
        raise click.UsageError("--last is above 0 and at most 90d")
    request = QueryAnalytics(kind=kind, last_seconds=last_seconds, **more)
    now = read_clock()
    with opened(invocation) as database:
        answer = query_analytics(
            Observing(
                connect=database.reading, now=now, monotonic=SystemClock().monotonic, snapshot={}
            ),
            request,
        )
    if output is Output.JSON:
        print_json(msgspec.to_builtins(answer))
        return
    _print(answer, kind, now=now)
    if answer.truncated:
        say(
            "there was more than is read for one answer: these are the newest; say a shorter --last"
        )


def _print(answer: Answer, kind: AnalyticsKind, *, now: Any) -> None:
    told = msgspec.to_builtins(answer, builtin_types=(type(now),))
    if kind in _COLUMNS:
        rows = [{name: _plainly(value) for name, value in row.items()} for row in told["rows"]]
        print_rows(rows, _COLUMNS[kind], output=Output.TABLE, now=now)
        if told.get("imbalance") is not None:
            say(f"the busiest session has {told['imbalance']:g} times the mean share")
        return
    cores = told.pop("cores")
    counts = {name: _plainly(each) for name, each in told.items() if name not in _OWN}
    print_fields({name: each if each != "" else 0 for name, each in counts.items()}, now=now)
    print_section("cores", cores, ["core_id", "alive", "draining", "tasks_open"], now=now)


_OWN: Final = ("kind", "since", "until", "truncated")


def _plainly(value: object) -> object:
    match value:
        case dict():
            return ", ".join(f"{count} {what}" for what, count in sorted(value.items()))
        case list() | tuple():
            return ", ".join(str(each) for each in value) or None
        case _:
            return value
