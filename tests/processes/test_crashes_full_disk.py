"""PostgreSQL's disk is full under load: nothing is acknowledged, and nothing is done twice."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from tasker_zmq.store import schema
from tasker_zmq.store.embedded import resume_server
from tasker_zmq.store.provision import database_server
from tests.databases import execute, named
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    LEDGER,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    counted,
    submit_many,
    verdicts,
)
from tests.processes.running import Client, RunningDaemon, eventually

pytestmark = pytest.mark.slow

CHAINS = 400
STEPS = 4 * CHAINS
MIB = 1 << 20
DATABASE_MIB, SERVER_MIB = 64, 256
WAL_FILES = SERVER_MIB // 16
UNANSWERED_MS = 500
CHAIN = {"namespace": "tests", "name": "chain", "version": "1.0.0", "context": {"number": 1}}
NO_ROOM = "No space left on device"
# Who may not mount a small disk gets an error as PostgreSQL words it, where it would meet it.
STAND_IN = f"""
CREATE TABLE full_disks (since timestamptz);
CREATE FUNCTION extend_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM full_disks) THEN
        RAISE EXCEPTION USING ERRCODE = '53100', HINT = 'Check free disk space.',
            MESSAGE = 'could not extend file "base/16384/16396": {NO_ROOM}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER extend_file BEFORE INSERT ON {LEDGER}
FOR EACH ROW EXECUTE FUNCTION extend_file()"""  # noqa: S608 - names of ours


@dataclass(frozen=True)
class Disk:
    """Where one database lies."""

    database_url: str
    fill: Callable[[], None]
    make_room: Callable[[], object]


@contextmanager
def mounted(place: Path, *, mib: int) -> Iterator[None]:
    """A small file system, which only root may mount."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place.mkdir()
    asked = ("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(place))
    mounting = subprocess.run(asked, check=False, capture_output=True, text=True)
    if mounting.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounting.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(("umount", str(place)), check=True)


def fill(filler: Path) -> None:
    """Take all the room that is left, while others take some too."""
    with filler.open("wb", buffering=0) as taking, pytest.raises(OSError, match=NO_ROOM):
        taking.writelines(repeat(bytes(MIB)))


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """The database's files lie on a small disk; the server's own, and its WAL, on the large one."""
    server, place = folder / "postgres", folder / "small"
    filler = place / "filler"
    with (
        mounted(place, mib=DATABASE_MIB),
        database_server(None, data_dir=server, keep=False) as found,
    ):
        schema.upgrade(found.url)
        owner = (server / "cluster").stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        name = make_url(found.url).database
        execute(named(found.url, "postgres"), f"CREATE TABLESPACE small LOCATION '{place}'")
        execute(named(found.url, "postgres"), f'ALTER DATABASE "{name}" SET TABLESPACE small')
        yield Disk(found.url, lambda: fill(filler), filler.unlink)


@contextmanager
def stand_in(folder: Path) -> Iterator[Disk]:
    """The server says that its disk is full, which it is not."""
    with database_server(None, data_dir=folder / "postgres", keep=False) as found:
        schema.upgrade(found.url)
        execute(found.url, STAND_IN)
        yield Disk(
            found.url,
            lambda: execute(found.url, "INSERT INTO full_disks VALUES (now())"),
            lambda: execute(found.url, "DELETE FROM full_disks"),
        )


def write_wal(url: str) -> None:
    """More files of it than PostgreSQL has in stock."""
    for _ in range(WAL_FILES):
        execute(url, "SELECT pg_logical_emit_message(true, 'tests', 'written'), pg_switch_wal()")


@contextmanager
def small_server(folder: Path) -> Iterator[Disk]:
    """All that the server has lies on a small disk; it ends when that is full."""
    place = folder / "small"
    server, filler = place / "postgres", place / "filler"
    with (
        mounted(place, mib=SERVER_MIB),
        database_server(None, data_dir=server, keep=False) as found,
    ):
        schema.upgrade(found.url)

        def end_server() -> None:
            fill(filler)
            with pytest.raises(OperationalError):
                write_wal(found.url)

        def make_room() -> None:
            filler.unlink()
            resume_server(server)

        yield Disk(found.url, end_server, make_room)


@pytest.fixture
def disk(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Disk]:
    with request.param(short_folder) as found:
        yield found


@pytest.fixture
def database_url(disk: Disk) -> str:
    return disk.database_url


def start_load(running: RunningDaemon, worker: StartWorker, witness: Witness) -> int:
    """The id of the first of many tasks, some of whose steps have run."""
    worker(running, WORKLOAD, arguments=("--concurrency", "4"), variables=witness.variables)
    tasks = submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
    await_steps(running, "complete", STEPS // 8)
    return tasks[0]


def status(client: Client) -> str:
    return str(client.ask("HealthCheck")["status"])


def reasons(running: RunningDaemon) -> list[str]:
    """Why the database was away, by the log."""
    return [line for line in running.said.splitlines() if "database_away" in line]


def assert_each_step_ran_once(running: RunningDaemon, witness: Witness, *, chains: int) -> None:
    assert counted(running, "tasker_tasks") == {"complete": chains}
    assert len(witness.runs()) == 4 * chains
    assert set(witness.runs().values()) == {1}
    assert set(verdicts(running)) <= {"applied", "noted", "duplicate"}
    assert_it_held(running)


def ask_for_a_chain(client: Client, command_id: str) -> None:
    client.send_command("InitializeTask", {"task_request": CHAIN}, command_id=command_id)


def recorded(running: RunningDaemon) -> int:
    return int(running.rows(f"SELECT count(*) AS n FROM {LEDGER}")[0]["n"])  # noqa: S608 - a table of ours


@pytest.mark.parametrize("disk", [small_disk, stand_in], indirect=True)
def test_while_postgresqls_disk_is_full_nothing_is_acknowledged_and_then_all_goes_on(
    daemon: StartDaemon, worker: StartWorker, witness: Witness, disk: Disk
) -> None:
    """With leases as by default, so that no step is lost, and each must run but once."""
    running = daemon()
    task = start_load(running, worker, witness)
    disk.fill()
    with running.client() as client, running.client() as unanswered:
        eventually(lambda: status(client) == "degraded", "its health says what is wrong")
        before = recorded(running)
        assert before < 2 * STEPS, "the disk was full too late"
        ask_for_a_chain(unanswered, "meanwhile")
        assert not unanswered.socket.poll(UNANSWERED_MS), "a task was taken and not written down"
        assert status(client) == "degraded"
        assert client.ask("GetTask", {"task_id": task})["task_id"] == task
        assert recorded(running) == before
        disk.make_room()
        assert unanswered.receive().correlation_id == "meanwhile"
        eventually(lambda: status(client) == "ok", "it is well again")
    await_no_open_tasks(running)
    assert_each_step_ran_once(running, witness, chains=CHAINS + 1)
    (reason,) = reasons(running)
    assert NO_ROOM in reason
    assert "tick_failed" not in running.said
    assert running.said.count("database_back") == 1


@pytest.mark.crashes  # PostgreSQL gives up when it comes to that, on a busy machine after minutes
@pytest.mark.parametrize("disk", [small_server], indirect=True)
def test_a_full_disk_that_ends_postgresql_itself_is_an_outage_like_any_other(
    daemon: StartDaemon, worker: StartWorker, witness: Witness, disk: Disk
) -> None:
    """It cannot write its WAL, ends, and is started by somebody who made room."""
    running = daemon()
    start_load(running, worker, witness)
    disk.fill()
    with running.client() as client:
        eventually(lambda: status(client) == "degraded", "its health says what is wrong")
        eventually(
            lambda: any("connection to server" in each for each in reasons(running)),
            "its log says that PostgreSQL is gone",
        )
        ask_for_a_chain(client, "meanwhile")
        assert not client.socket.poll(UNANSWERED_MS), "a task was taken and not written down"
        disk.make_room()
        assert client.receive().correlation_id == "meanwhile"
        eventually(lambda: status(client) == "ok", "it is well again")
    await_no_open_tasks(running)
    assert_each_step_ran_once(running, witness, chains=CHAINS + 1)
