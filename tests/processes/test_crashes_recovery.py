"""How soon work goes on after a crash, with the default settings: told, and bounded generously."""

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq.clock import SystemClock
from tasker_zmq.store import schema
from tasker_zmq.store.embedded import halt_server, resume_server
from tasker_zmq.store.provision import database_server
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    LEDGER,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    submit_many,
)
from tests.processes.running import Program, RunningDaemon, eventually

pytestmark = [pytest.mark.slow, pytest.mark.crashes]

FACTOR = 5  # how much longer than promised it may take on a busy machine
KILLED_SECONDS, SILENT_SECONDS, DAEMON_SECONDS, DATABASE_SECONDS = 3.0, 12.0, 2.0, 5.0


@pytest.fixture
def server(short_folder: Path) -> Path:
    """The folder of this test's own PostgreSQL."""
    return short_folder / "postgres"


@pytest.fixture
def database_url(server: Path) -> Iterator[str]:
    with database_server(None, data_dir=server, keep=False, durable=True) as found:
        schema.upgrade(found.url)
        yield found.url


class Stopwatch:
    """Tells how long things took, and how long they were to take."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        self._began = self._clock.monotonic()

    def passed(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._began

    def stop(self, what: str, promised_seconds: float) -> None:
        self.tell(what, self.passed(), promised_seconds)

    def tell(self, what: str, took: float, promised_seconds: float) -> None:
        self.lines.append(f"{what}: {took:.2f} s, promised {promised_seconds:.0f} s")
        assert took < FACTOR * promised_seconds, self.lines


NEWEST = text(f"SELECT coalesce(max(id), 0) FROM {LEDGER} WHERE verdict = 'applied'")  # noqa: S608


def newest_result(url: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return int(connection.execute(NEWEST).scalar_one())


def await_result_after(url: str, result_id: int, watch: Stopwatch) -> float:
    """The seconds on `watch` when a newer result is recorded."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:

        def is_there() -> bool:
            return bool(connection.execute(NEWEST).scalar_one() > result_id)

        eventually(is_there, "a result is recorded", seconds_max=90.0)
    return watch.passed()


def hold(running: RunningDaemon, witness: Witness, stem: str) -> int:
    pipe = witness.pipe(stem)
    task_id = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(task_id, "wait_at")
    return task_id


def await_elsewhere(witness: Witness, task_id: int) -> None:
    found = (task_id, "wait_at")
    eventually(lambda: witness.runs()[found] > 1, "it runs elsewhere", seconds_max=90.0)


def as_installed(folder: Path) -> dict[str, str]:
    """From bytecode, as installed packages start; whoever develops may have switched it off."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def await_chain(running: RunningDaemon) -> None:
    submit_many(running, "tests/chain@1.0.0", [{"number": 1}])
    await_no_open_tasks(running)


def test_work_goes_on_soon_after_each_kind_of_crash(
    daemon: StartDaemon,
    worker: StartWorker,
    witness: Witness,
    server: Path,
    short_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def start(number: int) -> Program:
        found = worker(
            running, WORKLOAD, name=f"w-{number}", variables=witness.variables, sessions=None
        )
        eventually(lambda: "worker_registered" in found.said, "it has a session")
        return found

    running = daemon(variables=as_installed(short_folder))
    first = start(1)
    watch = Stopwatch()

    held = hold(running, witness, "held-1")
    second = start(2)
    watch.start()
    first.kill()
    await_elsewhere(witness, held)
    watch.stop("a killed worker's step runs elsewhere", KILLED_SECONDS)

    third = start(3)
    watch.start()
    second.send_signal(signal.SIGSTOP)
    eventually(lambda: witness.runs()[held, "wait_at"] > 2, "elsewhere", seconds_max=90.0)
    watch.stop("a silent worker's step runs elsewhere", SILENT_SECONDS)
    (witness.path.parent / "held-1").write_text("released", encoding="utf-8")
    running.await_task(held)
    second.kill()

    held = hold(running, witness, "held-2")
    before = newest_result(running.database_url)
    running.kill()
    witness.release(witness.path.parent / "held-2")  # its worker has a result to tell
    with ThreadPoolExecutor(1) as aside:
        watch.start()
        recorded = aside.submit(await_result_after, running.database_url, before, watch)
        running = daemon(variables=as_installed(short_folder))
        ready = watch.passed()
        running.await_task(held)
        finished = watch.passed()
    took = recorded.result()
    watch.tell("a daemon records a result, from its process's start", took, DAEMON_SECONDS)
    watch.tell("a daemon records a result, from ready", max(0.0, took - ready), DAEMON_SECONDS)
    watch.tell("and what it sent next has ended, from its start", finished, DAEMON_SECONDS)

    halt_server(server, at_once=True)
    resume_server(server)
    watch.start()
    await_chain(running)
    watch.stop("work goes on after PostgreSQL is back", DATABASE_SECONDS)
    assert third.is_alive
    with capsys.disabled():
        sys.stdout.write("".join(f"\n{line}" for line in [*watch.lines, ""]))
    assert_it_held(running)
