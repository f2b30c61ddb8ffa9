"""The processes that `chaos` starts and ends again and again; each worker has its own proxies.

The daemon tells workers paths of sockets that are relative: it binds them in its own folder, and
each worker, in a folder of its own, finds a proxy under the same names.
"""

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasker_zmq.cli.chaotic.load import WITNESS
from tasker_zmq.cli.chaotic.proxy import Proxy
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
from tasker_zmq.errors import UnreachableError
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store.connection import ConnectionLimits

READY_SECONDS_MAX: Final = 30.0
LOAD: Final = "tasker_zmq.cli.chaotic.load"
THREADS: Final = 4
DATA_PLANE: Final = ("steps", "results")
LINKS: Final = (*DATA_PLANE, "commands")
KEPT_BY: Final = "tasker-zmq chaos --keep DIR"
PURPOSE: Final = "chaos"
CORE_ID: Final = "chaos-daemon"
LIMITS: Final = ConnectionLimits(connect_timeout_seconds=2, statement_timeout_seconds=60)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is wanted; without a URL the database is an embedded one, which faults may befall."""

    variables: Mapping[str, str]
    settings: Mapping[str, str]  # of the daemon, as variables
    workers: int
    database_url: str | None
    keep: Path | None

    @property
    def kept_by(self) -> str | None:
        """The command that keeps the logs, where they are not kept."""
        return KEPT_BY if self.keep is None else None


@dataclass(kw_only=True)
class Stage:
    """What runs now. A process that was ended on purpose is in `ended`, by its id."""

    plan: Plan
    folder: Path
    database_url: str
    database: Database
    started: list[Program] = field(default_factory=list)
    workers: dict[int, Program] = field(default_factory=dict)
    links: dict[int, dict[str, Proxy]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    @property
    def daemon(self) -> Program:
        """The one that was started last."""
        return next(each for each in reversed(self.started) if each.name.startswith("daemon"))

    @property
    def witness(self) -> Path:
        return self.folder / "witness.jsonl"

    @property
    def server_folder(self) -> Path:
        """The embedded PostgreSQL's."""
        return self.folder / "postgres"

    @property
    def commands(self) -> str:
        return endpoints_in(self._room("daemon"))["commands"]

    def start_daemon(self) -> None:
        """A daemon under the name that all of them have."""
        room = self._room("daemon")
        endpoints = endpoints_in(room) | {each: f"ipc://{each}" for each in DATA_PLANE}
        variables = {
            **self.plan.variables,
            **self.plan.settings,
            **{f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()},
            "TASKER_DATABASE_URL": self.database_url,
            "TASKER_CORE_ID": CORE_ID,
            "TASKER_ENV": ENVIRONMENT,
        }
        self._start("daemon", "main", ("daemon",), variables=variables, room=room)

    def start_worker(self, number: int) -> None:
        """The worker of that number, behind the proxies that are its own."""
        room = self._room(f"worker-{number}")
        if number not in self.links:
            self.links[number] = self._linked(room)
        variables = {
            **self.plan.variables,
            "TASKER_COMMANDS": endpoints_in(room)["commands"],
            "TASKER_ENV": ENVIRONMENT,
            WITNESS: str(self.witness),
        }
        arguments = (LOAD, "--name", f"{PURPOSE}-{number}", "--concurrency", str(THREADS))
        self.workers[number] = self._start(
            f"worker-{number}",
            "worker",
            (*arguments, "--executor", "thread"),
            variables=variables,
            room=room,
        )

    def expect_end(self, program: Program) -> None:
        """From now on its end is nobody's fault."""
        self.ended.add(program.running.pid)

    def ended_by_themselves(self) -> list[Program]:
        """Processes that nobody ended; each is told of once."""
        found = [
            each
            for each in (self.daemon, *self.workers.values())
            if each.running.poll() is not None and each.running.pid not in self.ended
        ]
        self.ended |= {each.running.pid for each in found}
        return found

    def strike(self) -> None:
        """End all processes and proxies, also those that were paused."""
        for each in self.started:
            if each.running.poll() is None:
                with suppress(ProcessLookupError):
                    each.running.send_signal(signal.SIGCONT)
        daemons = [each for each in self.started if each.name.startswith("daemon")]
        end([*daemons[-1:], *self.workers.values()])
        for links in self.links.values():
            for link in links.values():
                link.stop()

    def _room(self, name: str) -> Path:
        room = self.folder / name
        room.mkdir(mode=0o700, exist_ok=True)
        return room

    def _linked(self, room: Path) -> dict[str, Proxy]:
        near, far = endpoints_in(room), endpoints_in(self._room("daemon"))
        found = {each: Proxy(near[each], far[each]) for each in LINKS}
        for each in found.values():
            each.start()
        return found

    def _start(
        self,
        name: str,
        module: str,
        arguments: tuple[str, ...],
        *,
        variables: Mapping[str, str],
        room: Path,
    ) -> Program:
        life = 1 + sum(each.name.rpartition(".")[0] == name for each in self.started)
        named = f"{name}.{life}"
        program = start(named, module, arguments=arguments, variables=variables, folder=room)
        self.started.append(program)
        return program


@contextmanager
def set_up(plan: Plan, *, interruption: Interruption, tell: Tell) -> Iterator[Stage]:
    """Start what is needed, in order, and end it in the opposite order."""
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasker-chaos-")))
        folder = private_folder(plan.keep, sockets)
        server = stack.enter_context(
            own_database(
                plan.database_url,
                place=folder / "postgres",
                name=f"tasker_chaos_{os.getpid()}",
                keep=plan.keep is not None,
            )
        )
        tell(f"database: {server.origin}")
        schema.upgrade(server.url)
        engine = connections.create(server.url, purpose=PURPOSE, limits=LIMITS)
        stack.callback(engine.dispose)
        seconds_max = LIMITS.statement_timeout_seconds
        database = Database(engine, server.origin, seconds_max=seconds_max)
        stage = Stage(plan=plan, folder=folder, database_url=server.url, database=database)
        stack.callback(stage.strike)
        try:
            _begin(stage, interruption, tell)
            yield stage
        except SystemExit:
            tell("interrupted: ending the workers, the daemon and the database")
            raise
        except Exception:
            programs = [stage.daemon, *stage.workers.values()]
            tell_last_words(programs, kept_by=plan.kept_by, tell=tell)
            raise


def _begin(stage: Stage, interruption: Interruption, tell: Tell) -> None:
    stage.start_daemon()
    _await_daemon(stage, interruption)
    tell(f"daemon: ready, process {stage.daemon.running.pid}")
    for number in range(1, stage.plan.workers + 1):
        stage.start_worker(number)
    _await_workers(stage, interruption)
    listed = ", ".join(str(each.running.pid) for each in stage.workers.values())
    tell(f"workers: {stage.plan.workers} registered, processes {listed}")


def _await_daemon(stage: Stage, interruption: Interruption) -> None:
    def answers() -> bool:
        stage.daemon.check()
        return daemon_answers(stage.commands)

    if not interruption.wait_until(answers, seconds_max=READY_SECONDS_MAX):
        raise UnreachableError(f"the daemon did not answer within {READY_SECONDS_MAX:.0f} s")


def _await_workers(stage: Stage, interruption: Interruption) -> None:
    def registered() -> bool:
        for each in stage.workers.values():
            each.check()
        with stage.database.reading() as connection:
            return connected_workers(connection) >= stage.plan.workers

    if not interruption.wait_until(registered, seconds_max=READY_SECONDS_MAX):
        raise UnreachableError(
            f"not all of the {stage.plan.workers} workers registered "
            f"within {READY_SECONDS_MAX:.0f} s"
        )
