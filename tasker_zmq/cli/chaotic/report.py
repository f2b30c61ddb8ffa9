"""What chaos found, as one JSON object or as a page for people."""

from typing import Any, Final

import click

from tasker_zmq.cli.chaotic.performance import Outcome, Show
from tasker_zmq.cli.chaotic.verdict import SHOWN_MAX

LABEL_WIDTH: Final = 34


def as_object(outcome: Outcome, show: Show) -> dict[str, Any]:
    """The published shape of `-o json`; names are only ever added."""
    verdict = outcome.verdict
    return {
        "seed": show.seed,
        "minutes": round(show.seconds / 60, 3),
        "workers": show.plan.workers,
        "settings": dict(show.plan.settings),
        "faults": dict(sorted(outcome.faults.items())),
        "tasks": verdict.tasks,
        "steps": verdict.steps,
        "lost": len(verdict.lost),
        "applied_twice": len(verdict.applied_twice),
        "executed_twice": verdict.executed_twice,
        "in_doubt": verdict.in_doubt,
        "given_up": verdict.given_up,
        "violations": [*verdict.violations, *verdict.lost, *verdict.applied_twice][:SHOWN_MAX],
        "recovery_seconds": {
            kind.value: {
                "p50": round(each.p50_seconds, 2),
                "max": round(each.max_seconds, 2),
                "count": each.count,
            }
            for kind, each in outcome.recoveries.items()
        },
        "finish_seconds": round(outcome.finish_seconds, 2),
    }


def print_page(outcome: Outcome, show: Show) -> None:
    """The faults with their recoveries, the counts, and what is wrong."""
    verdict = outcome.verdict
    click.secho("Faults, and the time to the next result", bold=True)
    for name, count in sorted(outcome.faults.items()):
        _line(name.replace("_", " "), f"{count:3}{_recovered(outcome, name)}")
    click.secho("What became of the work", bold=True)
    _line("tasks, steps", f"{verdict.tasks}, {verdict.steps}")
    _line("lost", str(len(verdict.lost)))
    _line("applied twice", str(len(verdict.applied_twice)))
    _line("run more than once", f"{verdict.executed_twice}, as a fault may make it")
    _line("in doubt, given up after losses", f"{verdict.in_doubt}, {verdict.given_up}")
    _line("all ended after the last fault in", f"{outcome.finish_seconds:.1f} s")
    wrong = [*verdict.violations, *verdict.lost, *verdict.applied_twice]
    if wrong:
        click.secho("Wrong", bold=True, fg="red")
        for each in wrong[:SHOWN_MAX]:
            click.echo(f"  {each}")
    else:
        click.secho("Nothing lost, nothing applied twice, every invariant holds.", fg="green")
    click.echo(f"The same faults again: tasker-zmq chaos --seed {show.seed}")


def _recovered(outcome: Outcome, name: str) -> str:
    for kind, each in outcome.recoveries.items():
        if kind.value == name:
            return f"   p50 {each.p50_seconds:.1f} s, at most {each.max_seconds:.1f} s"
    return ""


def _line(label: str, words: str) -> None:
    click.echo(f"  {click.style(label.ljust(LABEL_WIDTH), bold=True)}{words}")
