"""A system to measure: a fresh database, a daemon and workers, each a process of its own."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text

from tasker_zmq.cli.demonstration.programs import Program, end, start
from tasker_zmq.errors import TaskerError
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.provision import database_server

PURPOSES = ("steps", "results", "commands", "health")
WAIT_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class System:
    """A running system: where commands go, its database, the daemon and the workers."""

    commands: str
    engine: Engine
    programs: list[Program]


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """One worker: the file with its handlers, and how many steps it runs at once."""

    target: Path
    concurrency: int


@contextmanager
def running(
    workers: Sequence[WorkerSpec], *, settings: Mapping[str, str] | None = None
) -> Iterator[System]:
    """A fresh database, a daemon and workers; all of it gone afterwards.

    `settings` are variables such as TASKER_AUDIT_LEVEL.
    """
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
        variables |= settings or {}
        variables["TASKER_DATABASE_URL"] = server.url
        commands = f"ipc://{folder / 'commands'}"
        programs = [
            start("daemon", "main", arguments=["daemon"], variables=variables, folder=folder)
        ]
        stack.callback(end, programs)
        for number, spec in enumerate(workers, start=1):
            arguments = [str(spec.target), "--name", f"bench-{number}", "--commands", commands]
            arguments += ["--concurrency", str(spec.concurrency)]
            programs.append(
                start(
                    f"w{number}", "worker", arguments=arguments, variables=variables, folder=folder
                )
            )
        system = System(commands, engine, programs)
        ready = "SELECT count(*) >= :workers FROM tasker_worker_registrations"
        wait_until(system, ready, workers=len(workers))
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
