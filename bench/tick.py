"""What a step costs inside of the tick: this side's processor time, and its backend's.

Chains of four on one core without sockets, workers that answer at once: what is left out is what
carries messages. `python -m bench.tick`, `--credit 1` for ticks that deal with hardly anything,
`-o json` for programs. Processor times, the least of some rounds: they hold beside other work.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import click
import orjson
from sqlalchemy import Engine

from bench.crowd import database
from tasker_zmq.pipeline.inbox import Received
from tasker_zmq.store.prepared import PreparedStatements
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import Node, Word, World, template

NAMES = ("reserve", "charge", "ship", "notify")
CONTEXT = {"order": "x" * 480}
RESULT = Word(output={"text": "x" * 130})
TASKS_PER_TICK = 500
TICKS_PER_SECOND = 100  # of the kernel, in /proc


class Backend:
    """The PostgreSQL process of one connection."""

    def __init__(self, engine: Engine) -> None:
        with engine.connect() as connection:
            process_id = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        self._path = Path(f"/proc/{process_id}/stat")

    def seconds(self) -> float:
        """Of the processor, so far."""
        numbers = self._path.read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / TICKS_PER_SECOND


@contextmanager
def timed_statements() -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Seconds on the wall of each hot statement, and how often it was run."""
    seconds: Counter[str] = Counter()
    times: Counter[str] = Counter()
    execute = PreparedStatements.execute

    def executing(self: PreparedStatements, statement: Any, values: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(self, statement, values)
        finally:
            seconds[statement.name] += time.perf_counter() - began
            times[statement.name] += 1

    PreparedStatements.execute = executing  # type: ignore[method-assign]
    try:
        yield seconds, times
    finally:
        PreparedStatements.execute = execute  # type: ignore[method-assign]


def tick(world: World, received: list[Received]) -> float:
    """One tick; seconds of the processor that the engine's thread would need for it."""
    now = world.clock.now()
    began = time.thread_time()
    with world.engine.begin() as connection:
        ticked = world.ticking.run(connection, received, now)
    ticked.changes.carry_out()
    took = time.thread_time() - began
    for publication in ticked.outbox.publications:
        world.state.published[publication.batch_id] = now
    world.deliver(ticked.outbox)
    world.letters.clear()
    return took


def create(world: World, tasks: int) -> float:
    """Create tasks, many in a tick; seconds of the processor."""
    request = world.request("chain", CONTEXT)
    asked: list[Received] = [world.command("InitializeTask", request) for _ in range(tasks)]
    return sum(
        tick(world, asked[first : first + TASKS_PER_TICK])
        for first in range(0, tasks, TASKS_PER_TICK)
    )


def finish(world: World) -> tuple[float, list[int]]:
    """Work until nothing is left; seconds of the processor, and how much each tick dealt with."""
    spent, sizes = 0.0, []
    while (frames := world.work()) or world.state.viable.waiting():
        spent += tick(world, list(frames))
        sizes.append(len(frames))
    for worker in world.workers:
        worker.requests.clear()
    return spent, sizes


def measure(world: World, backend: Backend, tasks: int) -> dict[str, float]:
    """One round: microseconds of the processor for each step, all told."""
    steps = tasks * len(NAMES)
    before = backend.seconds()
    creating = create(world, tasks)
    between = backend.seconds()
    finishing, sizes = finish(world)
    after = backend.seconds()
    scale = 1e6 / steps
    return {
        "create_engine": creating * scale,
        "create_postgres": (between - before) * scale,
        "run_engine": finishing * scale,
        "run_postgres": (after - between) * scale,
        "messages_per_tick": mean(sizes),
    }


@click.command()
@click.option("--tasks", default=1_000, show_default=True)
@click.option("--credit", default=200, show_default=True, help="steps that each of 2 workers takes")
@click.option("--rounds", default=8, show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, tasks: int, credit: int, rounds: int, output: str) -> None:
    """Measure what a step costs inside of the tick."""
    nodes = {
        name: Node(after=NAMES[place - 1 : place] if place else ())
        for place, name in enumerate(NAMES)
    }
    with database() as engine, timed_statements() as (seconds, times):
        world = World(engine, ManualClock(), steps_max=tasks * len(NAMES))
        world.publish(template("chain", nodes))
        for name in ("anna", "bert"):
            world.worker(name, concurrency=credit, handler=lambda _: RESULT)
        backend = Backend(engine)
        found = [measure(world, backend, tasks) for _ in range(rounds)]
    least = {name: round(min(each[name] for each in found), 1) for name in found[0]}
    hot = [name for name, count in times.most_common() if count >= rounds]
    per_run = {name: round(seconds[name] / times[name] * 1e3, 3) for name in hot}
    if output == "json":
        click.echo(orjson.dumps({"microseconds_per_step": least, "statement_ms": per_run}).decode())
        return
    click.echo("microseconds of the processor for a step (least of the rounds):")
    for name, value in least.items():
        click.echo(f"  {name:<20}{value:>8}")
    click.echo("milliseconds on the wall for a run of each statement, and runs:")
    for name, value in per_run.items():
        click.echo(f"  {name:<20}{value:>8}{times[name]:>8}")


if __name__ == "__main__":
    main()
