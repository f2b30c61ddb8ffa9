"""`tasker-zmq bench`: how fast it is here, and what it costs, on systems of its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import click
import orjson

from tasker_zmq.cli.benchmark.filling import database_mib, fill
from tasker_zmq.cli.benchmark.floor import Floor
from tasker_zmq.cli.benchmark.hops import latency_ms
from tasker_zmq.cli.benchmark.report import as_object, print_heading, print_row
from tasker_zmq.cli.benchmark.system import System, running
from tasker_zmq.cli.benchmark.workloads import WORKLOADS, Figures, Scale, Workload
from tasker_zmq.cli.demonstration.interruption import Interruption, interruptible
from tasker_zmq.cli.output import Output, output_option, say
from tasker_zmq.clock import SystemClock

CHAIN_STEPS: Final = 4
CREDIT_FACTOR: Final = 2
FILLED_DEFAULT: Final = ("chain4",)


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    help="One workload; may be given several times. [default: all; with --filled: chain4]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600.0),
    default=10.0,
    show_default=True,
    help="How long each workload is to take, about.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=32,
    show_default=True,
    help="Steps at once per worker.",
)
@click.option(
    "--filled",
    type=click.IntRange(min=1),
    metavar="TASKS",
    help="Each workload again with so many finished tasks in the database, 12 kB each.",
)
@output_option
def bench(
    *,
    only: Sequence[str],
    seconds: float,
    workers: int,
    concurrency: int,
    filled: int | None,
    output: Output,
) -> None:
    """Measure throughput, latency and cost: a fresh database and fresh processes each time.

    "of floor" compares with a bare loop that writes the same rows with the same statements, and
    with one commit and two hops for each step: that ratio means the same on any machine.
    """
    scale = Scale(seconds=seconds, workers=workers, concurrency=concurrency)
    if output is Output.TABLE:
        print_heading()
    with interruptible(SystemClock()) as interruption:
        for name in only or (FILLED_DEFAULT if filled else WORKLOADS):
            workload = WORKLOADS[name]
            say(f"{name}: {workload.summary}")
            alone, told = _measured(workload, scale, interruption)
            _print(told, workload, output)
            if filled:
                _, told = _measured(workload, scale, interruption, filled=filled, alone=alone)
                _print(told, workload, output)


def _measured(
    workload: Workload,
    scale: Scale,
    interruption: Interruption,
    *,
    filled: int | None = None,
    alone: Figures | None = None,
) -> tuple[Figures, dict[str, Any]]:
    """The figures, and all that is told of them; `alone` are those with nothing before them."""
    with running(workload.workers(scale), interruption=interruption) as system:
        more: dict[str, Any] = {}
        if filled:
            more["filled_tasks"] = fill(system, filled)
            more["database_mib"] = database_mib(system)
        figures = workload.measure(system, scale)
        ratio = None if filled else _floor_ratio(workload, figures, system, scale)
    if alone is not None:
        more["ratio_to_unfilled"] = ratio_to(alone, figures)
    figures = replace(figures, more={**figures.more, **more})
    return figures, as_object(workload, figures, scale, floor_ratio=ratio)


def ratio_to(alone: Figures, filled: Figures) -> float | None:
    """Filled by unfilled: steps a second, below 1 when slower; else milliseconds, above 1 then."""
    if alone.steps_per_second and filled.steps_per_second is not None:
        return round(filled.steps_per_second / alone.steps_per_second, 3)
    if alone.latency_ms and filled.latency_ms:
        return round(filled.latency_ms["p50"] / alone.latency_ms["p50"], 3)
    return None


def _print(told: dict[str, Any], workload: Workload, output: Output) -> None:
    if output is Output.TABLE:
        print_row(told, workload.summary)
    else:
        click.echo(orjson.dumps(told))


def _floor_ratio(
    workload: Workload, figures: Figures, system: System, scale: Scale
) -> float | None:
    """Ours by the floor's: below 1 for steps a second, above 1 for milliseconds."""
    if workload.floor == "throughput" and figures.steps_per_second is not None:
        in_flight = scale.workers * scale.concurrency * CREDIT_FACTOR
        tasks = max(100, round(figures.steps_per_second * min(scale.seconds, 5) / CHAIN_STEPS))
        return round(figures.steps_per_second / Floor(system, in_flight).steps_per_second(tasks), 3)
    if workload.floor == "latency" and figures.latency_ms is not None:
        return round(figures.latency_ms["p50"] / latency_ms(system, steps=CHAIN_STEPS), 3)
    return None
