"""How soon another core goes on with the tasks of one that is killed, or told to stop.

Two daemons with the usual settings on one database, and a worker that serves both. One of them gets
chains of four steps and, amid them, SIGKILL or SIGTERM. From that signal: until a living core owns
every open task, and until all are complete. `python -m bench.takeover`
"""

import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import orjson

from bench.system import running
from tasker_zmq.cli.benchmark.submitting import submit
from tasker_zmq.cli.benchmark.system import ALL_OVER, System, WorkerSpec
from tasker_zmq.cli.benchmark.workloads import LOAD
from tasker_zmq.cli.demonstration.premises import endpoints_in, without_settings
from tasker_zmq.cli.demonstration.programs import Program, end, start
from tasker_zmq.errors import TaskerError
from tasker_zmq.settings.environment import process_variables

BAR_SECONDS: Final = 15.0
WORKFLOW: Final = "chain4"
SIGNALS: Final = {"killed": signal.SIGKILL, "stopped": signal.SIGTERM}
LINKED: Final = (
    "SELECT EXISTS (SELECT FROM tasker_worker_registrations "
    "WHERE core_id = :core_id AND unregistered_at IS NULL)"
)
BEGUN: Final = (
    "SELECT EXISTS (SELECT FROM tasker_tasks "
    "WHERE processing_core_id = :core_id AND task_id > :after AND completed_at IS NOT NULL)"
)
LAST: Final = "SELECT coalesce(max(task_id), 0) FROM tasker_tasks"
LEFT: Final = (
    "SELECT count(*) FROM tasker_tasks WHERE completed_at IS NULL AND processing_core_id = :core_id"
)
ADOPTED: Final = (
    "SELECT NOT EXISTS (SELECT FROM tasker_tasks WHERE completed_at IS NULL "
    "AND (processing_core_id = :core_id OR processing_core_id IS NULL))"
)
NOT_COMPLETE: Final = "SELECT count(*) FROM tasker_tasks WHERE state <> 'complete'"


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """Seconds from the signal, and how many open tasks there were at that moment."""

    left: int
    adopted: float
    done: float


@contextmanager
def another_core(system: System, core_id: str) -> Iterator[tuple[Program, System]]:
    """A daemon beside the system's own, and the system as it is seen at that daemon's address."""
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as place:
        folder = Path(place)
        endpoints = endpoints_in(folder)
        variables = without_settings(process_variables()) | {
            f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()
        }
        variables["TASKER_DATABASE_URL"] = system.url
        arguments = ["daemon", "--core-id", core_id]
        program = start("other", "main", arguments=arguments, variables=variables, folder=folder)
        try:
            system.wait_until(LINKED, core_id=core_id)
            yield program, replace(system, commands=endpoints["commands"])
        finally:
            end([program])


def take_over(system: System, how: signal.Signals, *, tasks: int, core_id: str) -> Takeover:
    """End a core amid its tasks, and wait until they are complete."""
    with another_core(system, core_id) as (program, there):
        after = system.scalar(LAST)
        submit(there, WORKFLOW, range(tasks))
        system.wait_until(BEGUN, core_id=core_id, after=after)
        program.running.send_signal(how)
        ended_at = time.perf_counter()
        left = int(str(system.scalar(LEFT, core_id=core_id)))
        system.wait_until(ADOPTED, core_id=core_id)
        adopted = time.perf_counter() - ended_at
        system.wait_until(ALL_OVER)
        done = time.perf_counter() - ended_at
    if system.scalar(NOT_COMPLETE):
        raise TaskerError(f"{system.scalar(NOT_COMPLETE)} tasks ended, but are not complete")
    return Takeover(left=left, adopted=round(adopted, 3), done=round(done, 3))


def measure(*, runs: int, tasks: int) -> dict[str, list[Takeover]]:
    """By how the core ended; each time another one, for a name lives on in the rows."""
    with running([WorkerSpec(target=LOAD, concurrency=8)]) as system:
        return {
            name: [
                take_over(system, how, tasks=tasks, core_id=f"{name}-{run}") for run in range(runs)
            ]
            for name, how in SIGNALS.items()
        }


def line(name: str, found: list[Takeover]) -> str:
    adopted, done = [each.adopted for each in found], [each.done for each in found]
    left = round(statistics.median(each.left for each in found))
    verdict = "met" if max(done) < BAR_SECONDS else "MISSED"
    return (
        f"{name:<9} {len(found):>4} {left:>10} {statistics.median(adopted):>12.2f} "
        f"{max(adopted):>7.2f} {statistics.median(done):>9.2f} {max(done):>7.2f}   "
        f"done < {BAR_SECONDS:g}: {verdict}"
    )


@click.command()
@click.option("--runs", default=6, show_default=True, help="For each way to end; 15 s a kill.")
@click.option("--tasks", default=200, show_default=True, help="Chains of four steps each time.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def bench(*, runs: int, tasks: int, output: str) -> None:
    """Print how long takeovers take, in seconds from the signal."""
    found = measure(runs=runs, tasks=tasks)
    if output == "json":
        told = {
            name: [{"left": e.left, "adopted": e.adopted, "done": e.done} for e in each]
            for name, each in found.items()
        }
        click.echo(orjson.dumps({"tasks": tasks, "seconds": told}, option=orjson.OPT_INDENT_2))
        return
    click.echo("a core is  runs  left open  adopted p50     max  done p50     max, seconds")
    for name, each in found.items():
        click.echo(line(name, each))


if __name__ == "__main__":
    bench()
