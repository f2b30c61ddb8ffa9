"""A private database, a daemon and workers, from nothing to ready; all of it gone afterwards."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import Database
from tasker_zmq.cli.demonstration.figures import connected_workers
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.programs import Program, end, last_words, start
from tasker_zmq.cli.demonstration.shipped import Shipped
from tasker_zmq.errors import RefusedError, UnreachableError
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.store.provision import DatabaseServer, database_server

READY_SECONDS_MAX: Final = 30.0
ASK_SECONDS_MAX: Final = 1.0
SOCKET_PATH_BYTES_MAX: Final = 100  # the kernels allow 103 (macOS) and 107 (Linux)
PURPOSES: Final = ("steps", "results", "commands", "health")
ENVIRONMENT: Final = "development"
LIMITS: Final = ConnectionLimits(statement_timeout_seconds=60)  # the last count reads it all
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is wanted; without a URL the database is an embedded one in the private folder."""

    shipped: Shipped
    variables: Mapping[str, str]
    workers: int
    database_url: str | None
    keep: Path | None


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
        endpoints = _endpoints(sockets)
        folder = _private_folder(plan.keep, sockets)
        server = stack.enter_context(_database(plan, folder))
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
            tell_last_words(stage.programs, plan.keep, tell)
            raise


def _endpoints(folder: Path) -> dict[str, str]:
    longest = max(len(os.fsencode(folder / purpose)) for purpose in PURPOSES)
    if longest > SOCKET_PATH_BYTES_MAX:
        raise RefusedError(
            f"the sockets in {folder} would have names of {longest} bytes, at most "
            f"{SOCKET_PATH_BYTES_MAX} are possible; set TMPDIR to a shorter folder"
        )
    return {purpose: f"ipc://{folder / purpose}" for purpose in PURPOSES}


def _private_folder(keep: Path | None, sockets: Path) -> Path:
    if keep is None:
        return sockets
    folder = keep.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"--keep wants a new or an empty folder, and {folder} is neither")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _database(plan: Plan, folder: Path) -> Iterator[DatabaseServer]:
    place = folder / "postgres"
    keep = plan.keep is not None
    with database_server(plan.database_url, data_dir=place, keep=keep) as server:
        if plan.database_url is None:
            yield server
            return
        name = f"tasker_demo_{os.getpid()}"
        url = make_url(server.url).set(database=name).render_as_string(hide_password=False)
        _execute(server, f'CREATE DATABASE "{name}"')
        try:
            origin = f"a database of its own, {name}, beside {server.origin}"
            yield DatabaseServer(url=url, origin=origin)
        finally:
            _execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _execute(server: DatabaseServer, statement: str) -> None:
    engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    except SQLAlchemyError as error:
        raise UnreachableError(
            f"`{statement}` failed on {server.origin}: {getattr(error, 'orig', None) or error}; "
            "unset TASKER_DATABASE_URL to use an embedded PostgreSQL"
        ) from None


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
        try:
            with CommandClient(commands) as client:
                client.ask("HealthCheck", HealthCheck(), timeout_seconds=ASK_SECONDS_MAX)
        except UnreachableError:
            return False
        return True

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


def tell_last_words(programs: list[Program], keep: Path | None, tell: Tell) -> None:
    """The ends of all logs, and where they are."""
    for each in programs:
        tell(f"the last lines of {each.log}:")
        for line in last_words(each):
            tell(f"  {line}")
    if keep is None:
        tell("these logs go with the private folder; `tasker-zmq demo --keep DIR` keeps them")
