"""The floor of latency: for each step one commit and two hops over a socket, and nothing else."""

import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import zmq
from sqlalchemy import Connection, text

from tasker_zmq.cli.benchmark.system import LIMITS, System
from tasker_zmq.store import connection as connections

ROUNDS: Final = 300
WARM_UP: Final = 50
MESSAGE: Final = b"x" * 600
PATIENCE_MS: Final = 10_000
LAST: Final = b""


def _echo(url: str) -> None:
    """The other process: sends back what it gets until that is nothing."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(url)
        while (message := socket.recv()) != LAST:
            socket.send(message)


def latency_ms(system: System, *, steps: int) -> float:
    """The median of `steps` times a row's commit and a message there and back, milliseconds."""
    engine = connections.create(system.url, purpose="bench-floor", limits=LIMITS)
    try:
        with engine.connect() as connection:
            commit = _median(lambda: _commit(connection))
    finally:
        engine.dispose()
    return steps * (commit + _there_and_back()) * 1_000


def _commit(connection: Connection) -> None:
    """One row with an index entry or two: what is written is little, that it is safe is most."""
    with connection.begin():
        connection.execute(
            text(
                "INSERT INTO tasker_distributed_processing_locks "
                "(lock_name, owner_core_id, expires_at, acquired_at, metadata) "
                "VALUES (gen_random_uuid()::text, 'bench', now(), now(), '{}')"
            )
        )


def _there_and_back() -> float:
    with tempfile.TemporaryDirectory(prefix="tasker-hops-") as folder:
        url = f"ipc://{Path(folder) / 'echo'}"
        other = get_context("spawn").Process(target=_echo, args=(url,), daemon=True)
        with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVTIMEO, PATIENCE_MS)
            socket.bind(url)
            other.start()

            def exchange() -> None:
                socket.send(MESSAGE)
                socket.recv()

            taken = _median(exchange)
            socket.send(LAST)
            other.join(PATIENCE_MS / 1_000)
    return taken


def _median(deed: Callable[[], None]) -> float:
    """Seconds, after some rounds that do not count."""
    taken = []
    for number in range(WARM_UP + ROUNDS):
        started = time.perf_counter()
        deed()
        if number >= WARM_UP:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)
