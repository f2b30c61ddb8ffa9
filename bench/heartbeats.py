"""What the heartbeats of many workers cost the engine: processor time of its ticks, per second.

Ten seconds of a thousand sessions that beat every two seconds, spread evenly, one tick every 20 ms
of their time; the clock is told, so only the work counts. `python -m bench.heartbeats`.
"""

import time

import click
import orjson

from bench import crowd
from tasker_zmq.pipeline.inbox import ReceivedCommand
from tasker_zmq.protocol.commands import InHand, WorkerHeartbeat
from tasker_zmq.testing.world import World

SECONDS = 10.0
TICK_SECONDS = 0.02
BAR_PERCENT = 10.0
TASKS = 200


def beats(world: World, in_hand: int) -> list[ReceivedCommand]:
    """One heartbeat of every session, with so many batches in hand."""
    named = tuple(
        InHand(batch_id=f"0199a3c4-0000-7000-8000-{number:012x}")  # type: ignore[arg-type]
        for number in range(in_hand)
    )
    return [
        world.command(
            "WorkerHeartbeat",
            WorkerHeartbeat(session_id=each.session_id, current_load=3, in_hand=named),
            route=each.route,
        )
        for each in world.state.sessions.values()
    ]


def run(world: World, in_hand: int) -> tuple[float, float, int]:
    """Seconds of processor and of wall-clock time that the ticks took, and how many beats came."""
    interval = world.tuning.heartbeat_interval_seconds
    per_tick = max(1, round(len(world.state.sessions) * TICK_SECONDS / interval))
    waiting: list[ReceivedCommand] = []
    came, processor, wall = 0, 0.0, 0.0
    for _ in range(round(SECONDS / TICK_SECONDS)):
        if len(waiting) < per_tick:
            waiting += beats(world, in_hand)
        inbox, waiting = waiting[:per_tick], waiting[per_tick:]
        began, began_wall = time.thread_time(), time.perf_counter()
        with world.engine.begin() as connection:
            ticked = world.ticking.run(connection, inbox, world.clock.now())
        ticked.changes.carry_out()
        processor += time.thread_time() - began
        wall += time.perf_counter() - began_wall
        came += len(inbox)
        world.clock.advance(TICK_SECONDS)
    return processor, wall, came


@click.command()
@click.option("--workers", default=1_000, show_default=True)
@click.option("--in-hand", default=2, show_default=True, help="Batches that each beat names.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def bench(*, workers: int, in_hand: int, output: str) -> None:
    """Measure ten seconds of heartbeats."""
    with crowd.world() as world:
        crowd.publish(world, TASKS)
        for number in range(workers):
            asked = crowd.registration(number, TASKS, exclusive=False)
            route = (f"worker{number}".encode(),)
            world.tick(world.command("RegisterWorker", asked, route=route))
        crowd.subscribe_all(world)
        processor, wall, came = run(world, in_hand)
    figures = {
        "workers": workers,
        "heartbeats": came,
        "engine_percent": round(100 * processor / SECONDS, 2),
        "wall_percent": round(100 * wall / SECONDS, 2),
    }
    if output == "json":
        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        return
    percent = figures["engine_percent"]
    verdict = "met" if percent < BAR_PERCENT else "MISSED"
    click.echo(
        f"{came} heartbeats of {workers} workers in {SECONDS:g} s: the engine's processor time "
        f"{percent} % (< {BAR_PERCENT:g} %: {verdict}); with its waits for PostgreSQL "
        f"{figures['wall_percent']} %"
    )


if __name__ == "__main__":
    bench()
