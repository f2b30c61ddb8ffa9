"""One line of JSON, or one row of a table, for each workload."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from tasker_zmq.cli.benchmark.workloads import Figures, Scale, Workload

COLUMNS: Final = ("workload", "steps/s", "p50 ms", "p95 ms", "p99 ms", "of floor", "CPU s/1000")
WIDTHS: Final = (16, 9, 9, 9, 9, 9, 24)
GIT_SECONDS_MAX: Final = 5


def commit() -> str | None:
    """Which commit the code is of, where it is a checkout."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        told = subprocess.run(
            asked, capture_output=True, text=True, timeout=GIT_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def as_object(
    workload: Workload, figures: Figures, scale: Scale, *, floor_ratio: float | None
) -> dict[str, Any]:
    """What is known; a figure that a workload does not have is left out."""
    told: dict[str, Any] = {
        "workload": workload.name,
        "steps_per_second": figures.steps_per_second,
        "latency_ms": figures.latency_ms,
        "floor_ratio": floor_ratio,
        "cpu_seconds_per_1000_steps": figures.cpu_seconds_per_1000_steps,
        "peak_rss_mib": figures.peak_rss_mib,
        **figures.more,
    }
    present = {name: value for name, value in told.items() if value is not None}
    config = {
        "seconds": scale.seconds,
        "workers": scale.workers,
        "concurrency": 1 if workload.slow_workers else scale.concurrency,
    }
    return {**present, "commit": commit(), "config": config}


def print_heading() -> None:
    click.echo(_row(COLUMNS))


def print_row(told: Mapping[str, Any], summary: str) -> None:
    """The row, and below it what has no column."""
    latency = told.get("latency_ms") or {}
    costs = told.get("cpu_seconds_per_1000_steps") or {}
    spent = " + ".join("?" if each is None else f"{each:.3f}" for each in costs.values())
    click.echo(
        _row(
            (
                told["workload"],
                _number(told.get("steps_per_second"), ",.0f"),
                *(_number(latency.get(each), ".1f") for each in ("p50", "p95", "p99")),
                _number(told.get("floor_ratio"), ".2f"),
                spent,
            )
        )
    )
    shown = {"workload", "steps_per_second", "latency_ms", "floor_ratio", "commit", "config"}
    shown |= {"cpu_seconds_per_1000_steps"}
    rest = ", ".join(
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in told.items()
        if name not in shown
    )
    click.echo(f"  {summary}; {rest}" if rest else f"  {summary}")


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {each}" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _row(cells: tuple[str, ...]) -> str:
    first, *others = zip(cells, WIDTHS, strict=True)
    return first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)
