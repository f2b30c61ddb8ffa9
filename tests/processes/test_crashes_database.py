"""PostgreSQL that stops, falls or drops connections under load; each test has its own server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tasker_zmq.store import schema
from tasker_zmq.store.embedded import halt_server, resume_server
from tasker_zmq.store.provision import database_server
from tests.databases import execute
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    FORGIVING,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    counted,
    submit_many,
)
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

CHAINS = 60
STEPS = 4 * CHAINS
UNANSWERED_MS = 500
TERMINATIONS = 5
TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'tasker-zmq %'"""
CHAIN = {"namespace": "tests", "name": "chain", "version": "1.0.0", "context": {"number": 1}}


@pytest.fixture
def server(short_folder: Path) -> Path:
    """The folder of this test's own PostgreSQL."""
    return short_folder / "postgres"


@pytest.fixture
def database_url(server: Path) -> Iterator[str]:
    """A migrated database on a server that the test may stop; it loses no commit by that."""
    with database_server(None, data_dir=server, keep=False, durable=True) as found:
        schema.upgrade(found.url)
        yield found.url


def start_load(running: RunningDaemon, worker: StartWorker, witness: Witness) -> None:
    worker(running, WORKLOAD, arguments=("--concurrency", "4"), variables=witness.variables)
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
    await_steps(running, "complete", STEPS // 8)


def health_status(running: RunningDaemon) -> str:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    asker = context.socket(zmq.REQ)
    asker.setsockopt(zmq.LINGER, 0)
    asker.connect(running.endpoints["health"])
    try:
        asker.send(b"{}")
        assert asker.poll(5_000), "the health socket is silent"
        return str(json.loads(asker.recv())["status"])
    finally:
        asker.close()
        context.term()


@pytest.mark.parametrize("at_once", [False, True], ids=["shut down", "crashed"])
def test_while_postgresql_is_away_health_answers_nothing_is_acknowledged_and_then_all_goes_on(
    daemon: StartDaemon, worker: StartWorker, witness: Witness, server: Path, *, at_once: bool
) -> None:
    running = daemon(variables=FORGIVING)
    start_load(running, worker, witness)
    halt_server(server, at_once=at_once)
    eventually(lambda: health_status(running) == "degraded", "its health says what is wrong")
    with running.client() as client:
        client.send_command("InitializeTask", {"task_request": CHAIN}, command_id="meanwhile")
        assert not client.socket.poll(UNANSWERED_MS), "a task was taken that nobody wrote down"
        assert health_status(running) == "degraded"
        with running.client() as another:
            told = another.ask("HealthCheck", {"diagnostic_level": "full"})
        assert told["reason"].startswith("the database cannot be used now: ")
        assert told["limited_to"] == "the snapshot: the database is away"
        resume_server(server)
        assert client.receive().correlation_id == "meanwhile"
    eventually(lambda: health_status(running) == "ok", "it is well again")
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": CHAINS + 1}
    assert len(witness.runs()) == STEPS + 4
    assert set(witness.runs().values()) <= {1, 2}
    assert_it_held(running)


def test_connections_that_postgresql_drops_under_load_cost_nothing(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=FORGIVING)
    start_load(running, worker, witness)
    for number in range(1, TERMINATIONS + 1):
        execute(running.database_url, TERMINATE)
        await_steps(running, "complete", min(STEPS, STEPS // 8 + 20 * number))
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": CHAINS}
    assert set(witness.runs().values()) == {1}
    assert_it_held(running)
