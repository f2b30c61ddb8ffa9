"""A system to measure: a fresh database, a daemon and workers, each a process of its own."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, text

from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.premises import endpoints_in, own_database, without_settings
from tasker_zmq.cli.demonstration.programs import Program, end, start
from tasker_zmq.errors import TaskerError
from tasker_zmq.settings.environment import process_variables
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema

DATABASE: Final = "TASKER_BENCH_DATABASE_URL"
WAIT_SECONDS_MAX: Final = 300.0
LOOK_AGAIN_SECONDS: Final = 0.02  # at first; who looks often takes part in what is measured
LOOK_AGAIN_SECONDS_MAX: Final = 0.25
LOOKS_GROW: Final = 1.5
LIMITS: Final = connections.ConnectionLimits(statement_timeout_seconds=600)
ALL_OVER: Final = "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks WHERE completed_at IS NULL)"
SETTLED: Final = (
    "SELECT NOT EXISTS (SELECT 1 FROM tasker_step_execution_batches "
    "WHERE reconciliation_status = 'pending')"
)


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """One worker: the module or file with its handlers, and how many steps it runs at once."""

    target: Path | str
    concurrency: int


@dataclass(frozen=True)
class System:
    """A running system; `postmaster` is the embedded server's process, None for another's."""

    commands: str
    engine: Engine
    url: str
    postmaster: int | None
    interruption: Interruption
    programs: list[Program] = field(default_factory=list)

    @property
    def daemon(self) -> int:
        return self.programs[0].running.pid

    @property
    def workers(self) -> list[int]:
        return [each.running.pid for each in self.programs[1:]]

    def scalar(self, question: str, **values: object) -> object:
        """One value from the database."""
        with self.engine.connect() as connection:
            return connection.execute(text(question), values).scalar()

    def wait_until(self, question: str, **values: object) -> None:
        """Ask the database until it says yes; TaskerError when it never does."""
        give_up_at = time.perf_counter() + WAIT_SECONDS_MAX
        pause = LOOK_AGAIN_SECONDS
        while not self.scalar(question, **values):
            self.interruption.check()
            for program in self.programs:
                program.check()
            if time.perf_counter() > give_up_at:
                raise TaskerError(f"waited {WAIT_SECONDS_MAX:.0f} s in vain for: {question}")
            time.sleep(pause)
            pause = min(pause * LOOKS_GROW, LOOK_AGAIN_SECONDS_MAX)

    def rest(self, seconds: float) -> None:
        """Let time pass; SystemExit on a signal."""
        self.interruption.wait_until(lambda: False, seconds_max=seconds)


@contextmanager
def running(
    workers: Sequence[WorkerSpec],
    *,
    interruption: Interruption,
    settings: Mapping[str, str] | None = None,
    database_url: str | None = None,
) -> Iterator[System]:
    """A fresh database, a daemon and workers; all of it gone afterwards.

    The database is an embedded PostgreSQL's, or a new one on the server that `database_url` or
    TASKER_BENCH_DATABASE_URL names. `settings` are the daemon's, as variables.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-bench-")))
        server = stack.enter_context(
            own_database(
                database_url or os.environ.get(DATABASE),
                place=folder / "postgres",
                name=f"tasker_bench_{os.getpid()}",
                keep=False,
            )
        )
        schema.upgrade(server.url)
        engine = connections.create(server.url, purpose="bench", limits=LIMITS)
        stack.callback(engine.dispose)
        endpoints = endpoints_in(folder)
        variables = without_settings(process_variables()) | {
            f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()
        }
        variables |= {"TASKER_DATABASE_URL": server.url, **(settings or {})}
        postmaster = _postmaster(folder / "postgres")
        system = System(endpoints["commands"], engine, server.url, postmaster, interruption)
        stack.callback(end, system.programs)
        system.programs.append(
            start("daemon", "main", arguments=["daemon"], variables=variables, folder=folder)
        )
        for number, spec in enumerate(workers, start=1):
            arguments = [str(spec.target), "--name", f"bench-{number}"]
            arguments += ["--commands", system.commands, "--concurrency", str(spec.concurrency)]
            program = start(
                f"w{number}", "worker", arguments=arguments, variables=variables, folder=folder
            )
            system.programs.append(program)
        ready = "SELECT count(*) >= :workers FROM tasker_worker_registrations"
        system.wait_until(ready, workers=len(workers))
        yield system


def _postmaster(folder: Path) -> int | None:
    found = next(folder.rglob("postmaster.pid"), None) if folder.exists() else None
    return None if found is None else int(found.read_text(encoding="ascii").split()[0])
