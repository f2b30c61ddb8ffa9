"""A private database, a daemon and workers, from nothing to ready; all of it gone afterwards."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasker_zmq.cli.database import Database
from tasker_zmq.cli.demonstration.figures import connected_workers
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.premises import (
    ENVIRONMENT,
    Tell,
    daemon_answers,
    endpoints_in,
    own_database,
    private_folder,
    tell_last_words,
)
from tasker_zmq.cli.demonstration.programs import Program, end, start
from tasker_zmq.cli.demonstration.shipped import Shipped
from tasker_zmq.errors import UnreachableError
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.provision import DatabaseServer

READY_SECONDS_MAX: Final = 30.0
LIMITS: Final = ConnectionLimits(statement_timeout_seconds=60)  # the last count reads it all
KEPT_BY: Final = "tasker-zmq demo --keep DIR"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is wanted; without a URL the database is an embedded one in the private folder."""

    shipped: Shipped
    variables: Mapping[str, str]
    workers: int
    database_url: str | None
    keep: Path | None

    @property
    def kept_by(self) -> str | None:
        """The command that keeps the logs, where they are not kept."""
        return KEPT_BY if self.keep is None else None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything runs; `store` is the file of the shop's books."""

    commands: str
    database: Database
    store: Path
    programs: list[Program] = field(default_factory=list)

    def check(self) -> None:
        """Raise UnreachableError if one of the processes ended by itself."""
        for each in self.programs:
            each.check()


@contextmanager
def set_up(plan: Plan, *, interruption: Interruption, tell: Tell) -> Iterator[Stage]:
    """Start what is needed, in order, and end it in the opposite order."""
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-demo-")))
        endpoints = endpoints_in(sockets)
        folder = private_folder(plan.keep, sockets)
        server = stack.enter_context(
            own_database(
                plan.database_url,
                place=folder / "postgres",
                name=f"tasker_demo_{os.getpid()}",
                keep=plan.keep is not None,
            )
        )
        tell(f"database: {server.origin}")
        schema.upgrade(server.url)
        engine = connections.create(server.url, purpose="demo", limits=LIMITS)
        stack.callback(engine.dispose)
        seconds_max = LIMITS.statement_timeout_seconds
        database = Database(engine, server.origin, seconds_max=seconds_max)
        stage = Stage(
            commands=endpoints["commands"], database=database, store=folder / "shop.sqlite3"
        )
        stack.callback(end, stage.programs)
        try:
            _start_daemon(stage, plan, server, endpoints=endpoints, folder=folder)
            _await_daemon(stage, endpoints["commands"], interruption)
            tell(f"daemon: ready, process {stage.programs[0].running.pid}")
            _start_workers(stage, plan, endpoints["commands"], folder=folder)
            _await_workers(stage, plan.workers, interruption)
            tell(f"workers: {plan.workers} registered, {_listed_pids(stage.programs[1:])}")
            yield stage
        except SystemExit:
            tell("interrupted: ending the workers, the daemon and the database")
            raise
        except Exception:
            tell_last_words(stage.programs, kept_by=plan.kept_by, tell=tell)
            raise


def _start_daemon(
    stage: Stage,
    plan: Plan,
    server: DatabaseServer,
    *,
    endpoints: Mapping[str, str],
    folder: Path,
) -> None:
    addresses = {f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()}
    variables = {
        **plan.variables,
        **addresses,
        "TASKER_DATABASE_URL": server.url,
        "TASKER_TEMPLATES_FOLDER": str(plan.shipped.template.parent),
        "TASKER_CORE_ID": "demo",
        "TASKER_ENV": ENVIRONMENT,
    }
    stage.programs.append(
        start("daemon", "main", arguments=("daemon",), variables=variables, folder=folder)
    )


def _start_workers(stage: Stage, plan: Plan, commands: str, *, folder: Path) -> None:
    variables = {
        **plan.variables,
        "TASKER_COMMANDS": commands,
        "TASKER_DEMO_STORE": str(stage.store),
        "TASKER_ENV": ENVIRONMENT,
        "PYTHONPATH": _with_folder(plan.variables.get("PYTHONPATH"), plan.shipped.folder),
    }
    for number in range(1, plan.workers + 1):
        arguments = (str(plan.shipped.pool), "--name", f"demo-{number}")
        stage.programs.append(
            start(
                f"worker-{number}",
                "worker",
                arguments=arguments,
                variables=variables,
                folder=folder,
            )
        )


def _with_folder(path: str | None, folder: Path) -> str:
    """The pool's modules are found from the shipped folder, wherever the worker runs."""
    return os.pathsep.join((str(folder), path)) if path else str(folder)


def _await_daemon(stage: Stage, commands: str, interruption: Interruption) -> None:
    def answers() -> bool:
        stage.check()
        return daemon_answers(commands)

    if not interruption.wait_until(answers, seconds_max=READY_SECONDS_MAX):
        raise UnreachableError(f"the daemon did not answer within {READY_SECONDS_MAX:.0f} s")


def _await_workers(stage: Stage, count: int, interruption: Interruption) -> None:
    def registered() -> bool:
        stage.check()
        with stage.database.reading() as connection:
            return connected_workers(connection) >= count

    if not interruption.wait_until(registered, seconds_max=READY_SECONDS_MAX):
        raise UnreachableError(
            f"not all of the {count} workers registered within {READY_SECONDS_MAX:.0f} s"
        )


def _listed_pids(programs: list[Program]) -> str:
    word = "process" if len(programs) == 1 else "processes"
    return f"{word} {', '.join(str(each.running.pid) for each in programs)}"
