"""How long it takes to register a worker, and to choose workers, with many of both.

A thousand workers that run ten of two hundred named tasks each; half of them declare their tasks
exclusively, half are known by their handlers. `python -m bench.selection`, `-o json` for programs.
Registrations and SQL are measured on the wall; a selection waits for nothing: its processor time
counts, per step.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import orjson
from sqlalchemy import text

from bench import crowd
from tasker_zmq.pipeline.placing import Placing
from tasker_zmq.testing.world import World

BARS_MS = {"registration": 100.0, "selection": 10.0}
TURNS = 60


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[int(len(ordered) * 0.95)], 3),
        "most": round(ordered[-1], 3),
    }


def timed(deed: Callable[[], object]) -> float:
    """Milliseconds that it took."""
    began = time.perf_counter()
    deed()
    return (time.perf_counter() - began) * 1_000


def register(world: World, workers: int, tasks: int) -> list[float]:
    """Milliseconds of the whole tick in which each one registers, its transaction included."""
    asked = [
        world.command(
            "RegisterWorker",
            crowd.registration(number, tasks, exclusive=number % 2 == 0),
            route=(f"worker{number}".encode(),),
        )
        for number in range(workers)
    ]
    return [timed(lambda each=each: world.tick(each)) for each in asked]  # type: ignore[misc]


@contextmanager
def watched() -> Iterator[list[float]]:
    """Milliseconds of the processor that each tick took to choose steps and sessions."""
    found: list[float] = []
    choose, assign = Placing.choose, Placing.assign

    def choosing(self: Placing, fresh: Any) -> Any:
        began = time.thread_time()
        try:
            return choose(self, fresh)
        finally:
            found.append((time.thread_time() - began) * 1_000)

    def assigning(self: Placing, steps: Any) -> Any:
        began = time.thread_time()
        try:
            return assign(self, steps)
        finally:
            found[-1] += (time.thread_time() - began) * 1_000

    Placing.choose, Placing.assign = choosing, assigning  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Placing.choose, Placing.assign = choose, assign  # type: ignore[method-assign]


def select(world: World, tasks: int, *, at_once: int) -> list[float]:
    """Milliseconds per step to choose for `at_once` steps of as many tasks, turn after turn."""
    with watched() as found:
        for turn in range(TURNS):
            numbers = [(turn * at_once + each) % tasks for each in range(at_once)]
            world.tick(
                *(
                    world.command("InitializeTask", world.request(f"task{number}"))
                    for number in numbers
                )
            )
            for session in world.state.sessions.values():  # done at once, and recorded by nobody
                session.holding.clear()
                session.sent.clear()
            viable = world.state.viable
            left = [ready.step_id for kind in viable.kinds() for ready, _ in viable.peek(kind)]
            viable.discard(left)
    return [each / at_once for each in found if each > 0]


def ask_sql(world: World, tasks: int) -> list[float]:
    """Milliseconds of one call of tasker_candidate_workers for each of the tasks."""
    query = text("SELECT * FROM tasker_candidate_workers(:task, 'core-1', :now)")
    with world.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        ids = connection.execute(text("SELECT named_task_id FROM tasker_named_tasks")).scalars()
        wanted = list(ids)[:tasks]
        values = [{"task": each, "now": world.clock.now()} for each in wanted]
        connection.execute(query, values[0]).all()
        return [timed(lambda each=each: connection.execute(query, each).all()) for each in values]  # type: ignore[misc]


@click.command()
@click.option("--workers", default=1_000, show_default=True)
@click.option("--tasks", default=200, show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def bench(*, workers: int, tasks: int, output: str) -> None:
    """Measure registrations, and selections from memory and by SQL."""
    with crowd.world() as world:
        crowd.publish(world, tasks)
        figures = {"registration": percentiles(register(world, workers, tasks))}
        crowd.subscribe_all(world)
        figures["selection, 1 at once"] = percentiles(select(world, tasks, at_once=1))
        figures["selection, 200 at once"] = percentiles(select(world, tasks, at_once=200))
        figures["selection, by SQL"] = percentiles(ask_sql(world, tasks))
    if output == "json":
        told = {"workers": workers, "tasks": tasks, "milliseconds": figures}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    click.echo(f"{workers} workers, {tasks} named tasks; milliseconds")
    for name, found in figures.items():
        bar = BARS_MS[name.split(",")[0]]
        verdict = "met" if found["p95"] < bar else "MISSED"
        click.echo(f"  {name:24} {found}  (p95 < {bar:g}: {verdict})")


if __name__ == "__main__":
    bench()
