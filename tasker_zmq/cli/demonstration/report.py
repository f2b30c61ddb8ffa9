"""What the demo found, as one JSON object or as a page for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tasker_zmq.cli.demonstration.figures import Figures
from tasker_zmq.cli.demonstration.performance import Outcome
from tasker_zmq.cli.demonstration.witness import Hearing

LABEL_WIDTH = 12


def as_object(outcome: Outcome) -> dict[str, Any]:
    """The published shape of `-o json`; names are only ever added."""
    figures, hearing = outcome.figures, outcome.hearing
    return {
        "as_expected": not outcome.problems,
        "problems": list(outcome.problems),
        "tasks": dict(figures.tasks),
        "steps": sum(figures.steps.values()),
        "steps_by_state": dict(figures.steps),
        "retries": figures.retries,
        "batches": figures.batches,
        "ledger": dict(figures.ledger),
        "consistent": figures.consistent,
        "reconciliation": dict(figures.reconciliation),
        "discrepancies": figures.discrepancies,
        "seconds": round(figures.seconds, 3),
        "steps_per_second": round(figures.steps_per_second, 1),
        "step_latency_ms": {"p50": round(figures.p50_ms, 2), "p95": round(figures.p95_ms, 2)},
        "invariants": {
            "checked": figures.checked,
            "violated": len({each.invariant for each in figures.violated}),
        },
        "shop": {
            "reservations": hearing.reserved,
            "charged": hearing.charged,
            "charged_cents": hearing.charged_cents,
            "declined": hearing.declined,
            "shipped": hearing.shipped,
            "backordered_pieces": hearing.backordered,
            "exactly_once": not hearing.problems,
        },
    }


def print_page(outcome: Outcome, *, keep: Path | None) -> None:
    """The summary, and what to try next."""
    click.secho("What you saw", bold=True)
    for label, sentence in _lines(outcome.figures, outcome.hearing).items():
        click.echo(f"  {click.style(label.ljust(LABEL_WIDTH), bold=True)}{sentence}")
    if outcome.problems:
        click.secho("Not as expected", bold=True, fg="red")
        for each in outcome.problems:
            click.echo(f"  {each}")
        return
    click.secho("All of it is what the orders' file says should happen.", fg="green")
    click.secho("Try next", bold=True)
    for command in _next_commands(keep):
        click.echo(f"  {command}")


def _lines(figures: Figures, hearing: Hearing) -> Mapping[str, str]:
    violated = len({each.invariant for each in figures.violated})
    return {
        "tasks": _counts(figures.tasks),
        "steps": f"{_counts(figures.steps)}; {figures.retries} retries",
        "batches": f"{figures.batches}, {_agreement(figures)}",
        "ledger": _counts(figures.ledger),
        "speed": (
            f"{figures.steps_per_second:,.0f} steps/s over {figures.seconds:.2f} s; a step took "
            f"{figures.p50_ms:.1f} ms (p50), {figures.p95_ms:.1f} ms (p95) from dispatch to "
            "its recorded end"
        ),
        "invariants": f"{figures.checked} checked by SQL, {violated or 'none'} violated",
        "the shop": _shop(hearing),
    }


def _agreement(figures: Figures) -> str:
    if figures.consistent:
        return "all consistent: partial results and completions say the same"
    return f"{_counts(figures.reconciliation)}; {figures.discrepancies} discrepancies"


def _shop(hearing: Hearing) -> str:
    money = f"{hearing.charged_cents // 100:,}.{hearing.charged_cents % 100:02}"
    once = "each order once" if not hearing.problems else "not each order once"
    return (
        f"{hearing.reserved} reservations, {hearing.charged} cards charged ({money}), "
        f"{hearing.declined} declined, {hearing.shipped} parcels, "
        f"pieces owed: {hearing.backordered}; by its own books {once}"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _next_commands(keep: Path | None) -> tuple[str, str]:
    if keep is not None:
        place = f"TASKER_DATABASE_DATA_DIR={keep / 'postgres'}"
        return (f"{place} tasker-zmq tasks list", f"{place} tasker-zmq ledger tail")
    return (
        "tasker-zmq demo --orders 500     # the same orders again and again, in other quantities",
        "tasker-zmq demo --keep DIR       # and then look at every row, message and log",
    )
