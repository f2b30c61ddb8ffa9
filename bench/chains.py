"""Two figures: how long a 4-step chain takes on an idle system, and how many steps run in a second.

Daemon, workers and PostgreSQL are processes of their own; fsync and synchronous_commit stay on.
`make bench`, or `python bench/chains.py --chains 2000 -o json`.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import orjson
import zmq
from sqlalchemy import Connection, Engine, text

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.demonstration.programs import Program, end, start
from tasker_zmq.errors import TaskerError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, InitializeTask, Payload, TaskRequest
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.provision import database_server

CHAIN = Path(__file__).with_name("chain.py")
STEPS = 4
WARM_UP_CHAINS = 50
PURPOSES = ("steps", "results", "commands", "health")
WAIT_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class System:
    """A running system: where commands go, and its database."""

    commands: str
    engine: Engine
    programs: list[Program]


@contextmanager
def running(workers: int, concurrency: int) -> Iterator[System]:
    """A fresh database, a daemon and workers; all of it gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-bench-")))
        server = stack.enter_context(
            database_server(
                os.environ.get("TASKER_BENCH_DATABASE_URL"),
                data_dir=folder / "postgres",
                keep=False,
            )
        )
        schema.upgrade(server.url)
        engine = connections.create(
            server.url, purpose="bench", limits=connections.ConnectionLimits()
        )
        stack.callback(engine.dispose)
        variables = {name: value for name, value in os.environ.items() if "TASKER" not in name}
        variables |= {
            f"TASKER_ENDPOINTS_{each.upper()}": f"ipc://{folder / each}" for each in PURPOSES
        }
        variables["TASKER_DATABASE_URL"] = server.url
        commands = f"ipc://{folder / 'commands'}"
        programs = [
            start("daemon", "main", arguments=["daemon"], variables=variables, folder=folder)
        ]
        stack.callback(end, programs)
        for number in range(1, workers + 1):
            arguments = [str(CHAIN), "--name", f"bench-{number}", "--commands", commands]
            arguments += ["--concurrency", str(concurrency)]
            programs.append(
                start(
                    f"w{number}", "worker", arguments=arguments, variables=variables, folder=folder
                )
            )
        system = System(commands, engine, programs)
        ready = "SELECT count(*) >= :workers FROM tasker_worker_registrations"
        wait_until(system, ready, workers=workers)
        yield system


def wait_until(system: System, question: str, **values: int) -> None:
    """Ask the database until it says yes."""
    give_up_at = time.perf_counter() + WAIT_SECONDS_MAX
    while True:
        for program in system.programs:
            program.check()
        with system.engine.connect() as connection:
            if connection.execute(text(question), values).scalar():
                return
        if time.perf_counter() > give_up_at:
            raise TaskerError(f"waited {WAIT_SECONDS_MAX:.0f} s in vain for: {question}")
        time.sleep(0.02)


def request(number: int) -> InitializeTask:
    """One chain with a context of about 500 bytes."""
    order = {"order": {"id": number, "note": "n" * 460}}
    return InitializeTask(
        task_request=TaskRequest(
            namespace="bench", name="chain4", context=msgspec.Raw(orjson.dumps(order))
        )
    )


def one_by_one(system: System, chains: int) -> list[float]:
    """Milliseconds from request to completion as the daemon recorded them, one chain at a time."""
    with CommandClient(system.commands) as client:
        for number in range(chains):
            client.ask("InitializeTask", request(number))
            wait_until(
                system, "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks WHERE completed_at IS NULL)"
            )
    taken = text(
        "SELECT extract(epoch FROM completed_at - requested_at) * 1000 FROM tasker_tasks "
        "ORDER BY task_id DESC LIMIT :chains"
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
        wait_until(
            system, "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks WHERE completed_at IS NULL)"
        )
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
    with running(workers, concurrency) as system:
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
