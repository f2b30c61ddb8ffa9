"""Ours beside DBOS and PgQueuer on one PostgreSQL server, round by round: `make bench-peers`.

Each contender has a fresh database each time, and runs the same chain of four steps that do
nothing: context about 500 bytes, results about 150, the results before it delivered to each step.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import orjson
from sqlalchemy import text

from bench.peers.contenders import Ring, measure
from bench.peers.environments import PeerMissingError, python_of, version
from bench.peers.report import (
    DBOS,
    LATENCY,
    OURS,
    PGQUEUER,
    THROUGHPUT,
    Measured,
    as_object,
    lines,
    table,
)
from tasker_zmq.cli.benchmark.report import commit
from tasker_zmq.cli.benchmark.system import DATABASE, LIMITS
from tasker_zmq.cli.demonstration.interruption import Interruption, interruptible
from tasker_zmq.cli.output import Output, output_option, say
from tasker_zmq.clock import SystemClock
from tasker_zmq.errors import TaskerError
from tasker_zmq.store import connection as connections
from tasker_zmq.store.provision import database_server

PEERS: Final = (DBOS, PGQUEUER)
DURABILITY: Final = ("fsync", "synchronous_commit", "full_page_writes")
PEER_MISSING_EXIT: Final = 3


def durability(url: str) -> dict[str, str]:
    """The server's settings; TaskerError if it would forget commits when the power goes."""
    engine = connections.create(url, purpose="bench", limits=LIMITS)
    try:
        with engine.connect() as connection:
            found = {
                name: str(connection.execute(text(f"SHOW {name}")).scalar()) for name in DURABILITY
            }
    finally:
        engine.dispose()
    if off := [name for name, value in found.items() if value == "off"]:
        raise TaskerError(
            f"wanted a server that keeps what was committed, found {', '.join(off)} off; "
            f"turn it on, or unset {DATABASE} to have an embedded server"
        )
    return found


@contextmanager
def ring(
    peers: Sequence[str], interruption: Interruption, *, seconds: float, concurrency: int
) -> Iterator[Ring]:
    """The peers' environments and one server, embedded or the one that is named."""
    pythons: dict[str, Path] = {}
    for name in peers:
        say(f"{name}: its own virtual environment")
        pythons[name] = python_of(name, interruption)
    with (
        tempfile.TemporaryDirectory(prefix="tasker-bench-") as place,
        database_server(
            os.environ.get(DATABASE), data_dir=Path(place) / "postgres", keep=False
        ) as server,
    ):
        yield Ring(
            server=server.url,
            folder=Path(place),
            seconds=seconds,
            concurrency=concurrency,
            pythons=pythons,
            interruption=interruption,
        )


def run(where: Ring, *, rounds: int, workloads: Sequence[str]) -> list[Measured]:
    """All in turn, again and again: what disturbs one round disturbs everyone's."""
    found = []
    for number in range(1, rounds + 1):
        for workload in workloads:
            for contender in (OURS, *where.pythons):
                measured = measure(contender, workload, where)
                say(f"round {number}, {workload}, {contender}: {measured.figure:,.1f}")
                found.append(measured)
    return found


def config_of(where: Ring, settings: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "seconds": where.seconds,
        "rounds": rounds,
        "versions": {name: version(name, python) for name, python in where.pythons.items()},
        "commit": commit(),
        **settings,
    }


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 600.0),
    default=8.0,
    show_default=True,
    help="How long each contender is measured at each workload, about.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=32,
    show_default=True,
    help="Steps at once per worker of ours.",
)
@click.option("--only", type=click.Choice([THROUGHPUT, LATENCY]), help="One workload.")
@click.option(
    "--without", multiple=True, type=click.Choice(PEERS), help="Leave a peer out; several times."
)
@output_option
def bench(
    *,
    rounds: int,
    seconds: float,
    concurrency: int,
    only: str | None,
    without: Sequence[str],
    output: Output,
) -> None:
    """Measure ours beside DBOS and PgQueuer, in turn, on one server, with commits that last."""
    peers = [each for each in PEERS if each not in without]
    workloads = [only] if only else [THROUGHPUT, LATENCY]
    with (
        interruptible(SystemClock()) as interruption,
        ring(peers, interruption, seconds=seconds, concurrency=concurrency) as where,
    ):
        settings = durability(where.server)
        config = config_of(where, settings, rounds)
        found = lines(run(where, rounds=rounds, workloads=workloads))
    if output is Output.JSON:
        for each in found:
            click.echo(orjson.dumps(as_object(each, config)))
        return
    told = " ".join(f"{name} {value}" for name, value in config["versions"].items())
    click.echo(f"{told}; " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    for line in table(found):
        click.echo(line)


def main() -> None:
    """Run it; what cannot be is one sentence, and exit code 3 where a peer cannot be had."""
    try:
        bench()
    except PeerMissingError as error:
        say(str(error))
        sys.exit(PEER_MISSING_EXIT)
    except TaskerError as error:
        say(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
