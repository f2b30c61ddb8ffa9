"""What the tests of whole processes share: their workload, its witness, and what must hold."""

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tasker_zmq.clock import SystemClock
from tasker_zmq.protocol.commands import ERROR
from tasker_zmq.store.reads.invariants import check_invariants
from tests.processes.running import (
    PURPOSES,
    Program,
    RunningDaemon,
    RunningWorker,
    eventually,
    inherited_variables,
)

Task = Mapping[str, Any]  # as GetTask tells it
ROOT: Final = Path(__file__).resolve().parents[2]
HANDLERS: Final = Path(__file__).resolve().parent / "handlers"
WORKLOAD: Final = (HANDLERS / "workload.py").read_text(encoding="utf-8")

# Silence is noticed soon, so that a killed process is missed within a second or two.
IMPATIENT: Final[Mapping[str, str]] = {
    "TASKER_HEARTBEAT_INTERVAL_SECONDS": "200ms",
    "TASKER_HEARTBEAT_SUSPECT_SECONDS": "600ms",
    "TASKER_HEARTBEAT_DEAD_SECONDS": "1s",
    "TASKER_HEARTBEAT_CORE_LEASE_SECONDS": "1s",
    "TASKER_RETRY_JITTER": "0",
    "TASKER_RETRY_BACKOFF_BASE_MS": "20ms",
    "TASKER_RETRY_BACKOFF_CEILING_MS": "200ms",
    "TASKER_TIMEOUTS_COMPLETION_GRACE_SECONDS": "500ms",
}

# As before, but a worker has time to come back before a restarted daemon misses it.
FORGIVING: Final[Mapping[str, str]] = {**IMPATIENT, "TASKER_HEARTBEAT_DEAD_SECONDS": "4s"}
LEDGER: Final = "tasker_step_execution_batch_received_results"
_numbers = count(1)


@dataclass(frozen=True, order=True)
class Testimony:
    """That a step ran: which, which try, in which process."""

    task_id: int
    step_name: str
    attempt: int
    process_id: int


@dataclass(frozen=True)
class Witness:
    """The file into which the workload's steps write that they ran."""

    path: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"WITNESS": str(self.path)}

    @property
    def testimonies(self) -> list[Testimony]:
        if not self.path.exists():
            return []
        lines = [line.split() for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [Testimony(int(task), name, int(at), int(pid)) for task, name, at, pid in lines]

    def runs(self, step_name: str | None = None) -> Counter[tuple[int, str]]:
        """How often each step of each task ran."""
        return Counter(
            (each.task_id, each.step_name)
            for each in self.testimonies
            if step_name in (None, each.step_name)
        )

    def await_run(self, task_id: int, step_name: str) -> None:
        """Wait until this step has begun to run."""
        eventually(lambda: self.runs()[task_id, step_name] > 0, f"{step_name} of {task_id} runs")

    def pipe(self, stem: str) -> Path:
        """A named pipe: who reads it waits until someone writes, who writes until someone reads."""
        path = self.path.parent / stem
        os.mkfifo(path)
        return path

    def release(self, pipe: Path) -> None:
        """Let who reads the pipe go on, and at once whoever reads it later: a second run."""
        pipe.write_text("released", encoding="utf-8")
        ever_after = pipe.with_suffix(".released")
        ever_after.write_text("released", encoding="utf-8")
        ever_after.replace(pipe)

    def attempts(self, task_id: int, step_name: str) -> list[int]:
        """The tries of one step, in the order in which they ran."""
        return [
            each.attempt
            for each in self.testimonies
            if (each.task_id, each.step_name) == (task_id, step_name)
        ]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A daemon with one worker on the workload, for all tests of a module."""

    daemon: RunningDaemon
    worker: RunningWorker
    witness: Witness

    def submit(self, full_name: str, context: Mapping[str, Any]) -> int:
        return submit_many(self.daemon, full_name, [context])[0]

    def ended(self, full_name: str, context: Mapping[str, Any], state: str = "complete") -> Task:
        """A new task, once it is in this state."""
        return self.daemon.await_task(self.submit(full_name, context), state)


@contextmanager
def staged(
    database_url: str, *, transport: str, arguments: Sequence[str], targets: Sequence[str] = ()
) -> Iterator[Stage]:
    """A stage in a folder of its own; both processes must end well when it is struck."""
    with TemporaryDirectory(prefix="tz-") as name, ExitStack() as stack:
        folder = Path(name)
        witness = Witness(folder / "witness")
        endpoints = {
            purpose: "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{folder}/{purpose}"
            for purpose in PURPOSES
        }
        daemon = RunningDaemon.start(
            "main",
            ("daemon",),
            variables={
                **inherited_variables(),
                **{f"TASKER_ENDPOINTS_{key.upper()}": each for key, each in endpoints.items()},
                **IMPATIENT,
                "TASKER_DATABASE_URL": database_url,
            },
            log=folder / "daemon.log",
            cwd=folder,
        )
        stack.callback(daemon.stop)
        daemon.database_url, daemon.core_id = database_url, "core-1"
        daemon.await_ready()
        (folder / "handlers.py").write_text(WORKLOAD, encoding="utf-8")
        worker = RunningWorker.start(
            "worker",
            ("handlers.py", *targets, *arguments),
            variables={
                **inherited_variables(),
                **witness.variables,
                "TASKER_COMMANDS": daemon.endpoints["commands"],
                "TASKER_DEMO_STORE": str(folder / "shop.sqlite3"),
                "TASKER_WORKER_DRAIN_SECONDS": "1s",
            },
            log=folder / "worker.log",
            cwd=folder,
        )
        stack.callback(worker.stop)
        daemon.await_sessions(1)
        yield Stage(daemon=daemon, worker=worker, witness=witness)


def submit_many(
    to: RunningDaemon, full_name: str, contexts: Sequence[Mapping[str, Any]]
) -> list[int]:
    """One task for each context; all are asked for before the first answer is read."""
    namespace, _, rest = full_name.partition("/")
    name, _, version = rest.partition("@")
    named = {"namespace": namespace, "name": name, "version": version}
    ids = [f"rig-{os.getpid()}-{next(_numbers)}" for _ in contexts]
    found: dict[str, int] = {}
    with to.client() as client:
        for command_id, context in zip(ids, contexts, strict=True):
            wanted = {"task_request": {**named, "context": context}}
            client.send_command("InitializeTask", wanted, command_id=command_id)
        for _ in contexts:
            reply = client.receive()
            assert reply.payload.type != ERROR, bytes(reply.payload.data)
            task_id = msgspec.json.decode(reply.payload.data)["task_id"]
            found[reply.correlation_id or ""] = task_id
    return [found[command_id] for command_id in ids]


def results(task: Task) -> dict[str, Any]:
    """The result of each step, as GetTask told it."""
    return {each["name"]: each["results"] for each in task["steps"]}


def await_no_open_tasks(running: RunningDaemon, *, seconds_max: float = 60.0) -> None:
    """Wait until every task has ended, whether well or not."""

    def none_is_open() -> bool:
        running.check()
        found = running.rows("SELECT count(*) AS open FROM tasker_tasks WHERE completed_at IS NULL")
        return bool(found[0]["open"] == 0)

    eventually(none_is_open, "every task has ended", seconds_max=seconds_max)


def await_steps(running: RunningDaemon, state: str, at_least: int) -> None:
    """Wait until at least so many steps are in a state; the daemon may be away."""

    def are_there() -> bool:
        found = running.rows(
            "SELECT count(*) AS steps FROM tasker_workflow_steps WHERE state = :state", state=state
        )
        return bool(found[0]["steps"] >= at_least)

    eventually(are_there, f"{at_least} steps are {state}")


def counted(running: RunningDaemon, table: str) -> dict[str, int]:
    """How many rows of a table are in which state."""
    found = running.rows(f"SELECT state, count(*) AS rows FROM {table} GROUP BY state")  # noqa: S608 - a table of ours
    return {row["state"]: row["rows"] for row in found}


def assert_invariants(running: RunningDaemon) -> None:
    """Everything that SQL can check holds."""
    engine = create_engine(running.database_url, poolclass=NullPool)
    with engine.connect() as connection:
        violated = check_invariants(connection)
    assert not violated, "\n".join(str(each) for each in violated)


def assert_one_outcome_each(running: RunningDaemon) -> None:
    """Every completed step has exactly one result that was applied."""
    found = running.rows("""
        SELECT s.workflow_step_id, count(r.id) AS applied
        FROM tasker_workflow_steps s
        LEFT JOIN tasker_step_execution_batch_steps bs
            ON bs.workflow_step_id = s.workflow_step_id
        LEFT JOIN tasker_step_execution_batch_received_results r
            ON r.batch_step_id = bs.id AND r.verdict = 'applied' AND r.status = 'completed'
        WHERE s.state = 'complete'
        GROUP BY s.workflow_step_id
        HAVING count(r.id) <> 1""")
    assert not found, found


def listens(endpoint: str) -> bool:
    """Whether a process accepts connections there."""
    transport, _, address = endpoint.partition("://")
    if transport == "ipc":
        family, target = socket.AF_UNIX, address
    else:
        host, _, port = address.rpartition(":")
        family, target = socket.AF_INET, (host, int(port))  # type: ignore[assignment]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(target)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def let_pass(seconds: float) -> None:
    """Wait, where the length of something that a test does is what it tests."""
    clock = SystemClock()
    until = clock.monotonic() + seconds
    eventually(lambda: clock.monotonic() >= until, "it is over", seconds_max=seconds + 1.0)


def pause(paused: Program, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so many seconds."""
    paused.send_signal(signal.SIGSTOP)
    let_pass(seconds)
    paused.send_signal(signal.SIGCONT)


def verdicts(running: RunningDaemon, where: str = "true", **values: object) -> dict[str, int]:
    """How many messages of the ledger got which verdict."""
    found = running.rows(
        f"SELECT verdict, count(*) AS n FROM {LEDGER} r WHERE {where} GROUP BY 1",  # noqa: S608 - conditions of ours
        **values,
    )
    return {row["verdict"]: row["n"] for row in found}


def resident_bytes(running: Program) -> int:
    """The process's memory that is in use, as the kernel counts it."""
    status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1_024


def assert_it_held(running: RunningDaemon) -> None:
    """Nothing that a crash may break is broken, and nothing surprised the daemon."""
    assert_one_outcome_each(running)
    assert_invariants(running)
    assert "Traceback" not in running.said
