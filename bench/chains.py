"""Two figures: how long a 4-step chain takes on an idle system, and how many steps run in a second.

Daemon, workers and PostgreSQL are processes of their own; fsync and synchronous_commit stay on.
`make bench`, or `python -m bench.chains --chains 2000 -o json`.
"""

import statistics
from pathlib import Path

import click
import msgspec
import orjson
import zmq
from sqlalchemy import Connection, text

from bench.system import System, WorkerSpec, running, wait_until
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, Payload
from tasker_zmq.protocol.tasks import InitializeTask, TaskRequest

CHAIN = Path(__file__).with_name("chain.py")
STEPS = 4
WARM_UP_CHAINS = 50


def request(number: int) -> InitializeTask:
    """One chain with a context of about 500 bytes."""
    order = {"order": {"id": number, "note": "n" * 460}}
    return InitializeTask(
        task_request=TaskRequest(
            namespace="bench", name="chain4", context=msgspec.Raw(orjson.dumps(order))
        )
    )


ALL_OVER = "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks WHERE completed_at IS NULL)"


def one_by_one(system: System, chains: int, *, until: str = ALL_OVER) -> list[float]:
    """Milliseconds from request to completion as the daemon recorded them, one chain at a time."""
    with CommandClient(system.commands) as client:
        for number in range(chains):
            client.ask("InitializeTask", request(number))
            wait_until(system, until)
    taken = text(
        "SELECT extract(epoch FROM t.completed_at - t.requested_at) * 1000 FROM tasker_tasks t "
        "JOIN tasker_named_tasks n USING (named_task_id) WHERE n.name = 'chain4' "
        "ORDER BY t.task_id DESC LIMIT :chains"
    )
    with system.engine.connect() as connection:
        return [float(value) for value in connection.execute(taken, {"chains": chains}).scalars()]


def all_at_once(system: System, chains: int) -> float:
    """Steps per second from the first request to the last completion."""
    with system.engine.connect() as connection:
        before = _newest(connection)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(system.commands)
        for number in range(chains):
            payload = Payload(type="InitializeTask", data=codec.raw(request(number)))
            command = Command(
                command_type="InitializeTask",
                command_id=f"bench-{before}-{number}",
                payload=payload,
            )
            socket.send(codec.encode(command))
        for _ in range(chains):
            socket.recv()
        wait_until(system, ALL_OVER)
    taken = text(
        "SELECT count(*) * :steps / extract(epoch FROM max(completed_at) - min(requested_at)) "
        "FROM tasker_tasks WHERE task_id > :before AND state = 'complete'"
    )
    with system.engine.connect() as connection:
        return float(connection.execute(taken, {"steps": STEPS, "before": before}).scalar_one())


def _newest(connection: Connection) -> int:
    found = connection.execute(text("SELECT coalesce(max(task_id), 0) FROM tasker_tasks"))
    return int(found.scalar_one())


@click.command()
@click.option("--chains", default=2_000, show_default=True, help="For the throughput.")
@click.option("--single", default=100, show_default=True, help="For the latency, one at a time.")
@click.option("--workers", default=2, show_default=True)
@click.option("--concurrency", default=32, show_default=True, help="Steps at once per worker.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def bench(*, chains: int, single: int, workers: int, concurrency: int, output: str) -> None:
    """Measure chains of four steps that do nothing."""
    spec = WorkerSpec(target=CHAIN, concurrency=concurrency)
    with running([spec] * workers) as system:
        one_by_one(system, WARM_UP_CHAINS)
        latencies = sorted(one_by_one(system, single))
        rate = all_at_once(system, chains)
    figures = {
        "chain4_latency_ms": {
            "p50": round(statistics.median(latencies), 2),
            "p95": round(latencies[int(len(latencies) * 0.95)], 2),
        },
        "chain4_steps_per_second": round(rate, 1),
        "chains": chains,
        "workers": workers,
        "concurrency": concurrency,
    }
    if output == "json":
        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        return
    latency = figures["chain4_latency_ms"]
    click.echo(f"4-step chain on an idle system: {latency}  (ms, {single} chains one by one)")
    click.echo(f"{chains} chains at once: {rate:,.0f} steps/s  ({workers} workers x {concurrency})")


if __name__ == "__main__":
    bench()
