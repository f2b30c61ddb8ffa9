"""A core with workers that are no processes: its ticks, driven directly on PostgreSQL."""

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from tasker_zmq.pipeline.inbox import SubscriptionSeen
from tasker_zmq.protocol.commands import RegisterWorker, SupportedTask, WorkerMetadata
from tasker_zmq.protocol.topics import steps_topic
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.provision import database_server
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.world import NAMESPACE, VERSION, Node, World, template

TASKS_PER_WORKER = 10


@contextmanager
def database() -> Iterator[Engine]:
    """A fresh database, as a core is connected to it; all of it gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as folder:
        given = os.environ.get("TASKER_BENCH_DATABASE_URL")
        with database_server(given, data_dir=Path(folder) / "postgres", keep=False) as server:
            schema.upgrade(server.url)
            engine = connections.create(
                server.url, purpose="bench", limits=connections.ConnectionLimits()
            )
            try:
                yield engine
            finally:
                engine.dispose()


@contextmanager
def world() -> Iterator[World]:
    """A core on such a database."""
    with database() as engine:
        yield World(engine, ManualClock())


def publish(world: World, count: int) -> None:
    """Workflows of one step each, with a handler of its own."""
    for number in range(count):
        world.publish(template(f"task{number}", {"a": Node(handler=f"bench.h{number}")}))


def registration(number: int, tasks: int, *, exclusive: bool) -> RegisterWorker:
    """A worker that runs ten of the tasks: by declaring them, or by their handlers alone."""
    chosen = random.Random(number).sample(range(tasks), TASKS_PER_WORKER)  # noqa: S311 - repeatable
    supported = tuple(
        SupportedTask(namespace=NAMESPACE, name=f"task{each}", version=VERSION) for each in chosen
    )
    fields = {"supported_tasks": supported, "exclusive": True} if exclusive else {}
    return RegisterWorker(
        worker_name=f"worker{number}",
        handlers=tuple(f"bench.h{each}" for each in chosen),
        metadata=WorkerMetadata(max_concurrent_steps=4),
        **fields,  # type: ignore[arg-type]
    )


def subscribe_all(world: World) -> None:
    """Every session's subscription is seen."""
    sessions = list(world.state.sessions)
    world.tick(*(SubscriptionSeen(steps_topic(each), subscribed=True) for each in sessions))
