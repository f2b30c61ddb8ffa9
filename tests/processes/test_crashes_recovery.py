"""How soon work goes on after a crash, with the default settings: told, and bounded generously."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker_zmq.clock import SystemClock
from tasker_zmq.store import schema
from tasker_zmq.store.embedded import halt_server, resume_server
from tasker_zmq.store.provision import database_server
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import WORKLOAD, Witness, assert_it_held, await_no_open_tasks, submit_many
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

    def stop(self, what: str, promised_seconds: float) -> None:
        took = self._clock.monotonic() - self._began
        self.lines.append(f"{what}: {took:.1f} s, promised {promised_seconds:.0f} s")
        assert took < FACTOR * promised_seconds, self.lines


def hold(running: RunningDaemon, witness: Witness, stem: str) -> int:
    pipe = witness.pipe(stem)
    task_id = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(task_id, "wait_at")
    return task_id


def await_elsewhere(witness: Witness, task_id: int) -> None:
    found = (task_id, "wait_at")
    eventually(lambda: witness.runs()[found] > 1, "it runs elsewhere", seconds_max=90.0)


def await_chain(running: RunningDaemon) -> None:
    submit_many(running, "tests/chain@1.0.0", [{"number": 1}])
    await_no_open_tasks(running)


def test_work_goes_on_soon_after_each_kind_of_crash(
    daemon: StartDaemon,
    worker: StartWorker,
    witness: Witness,
    server: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def start(number: int) -> Program:
        found = worker(
            running, WORKLOAD, name=f"w-{number}", variables=witness.variables, sessions=None
        )
        eventually(lambda: "worker_registered" in found.said, "it has a session")
        return found

    running = daemon()
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

    running.kill()
    running = daemon()
    watch.start()
    await_chain(running)
    watch.stop("a daemon is back at work after its start", DAEMON_SECONDS)

    halt_server(server, at_once=True)
    resume_server(server)
    watch.start()
    await_chain(running)
    watch.stop("work goes on after PostgreSQL is back", DATABASE_SECONDS)
    assert third.is_alive
    with capsys.disabled():
        sys.stdout.write("".join(f"\n{line}" for line in [*watch.lines, ""]))
    assert_it_held(running)
