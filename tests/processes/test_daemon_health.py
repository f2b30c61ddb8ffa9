"""A daemon answers how it is whatever its engine waits for, and to any kind of client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import zmq
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ERROR, Command, Payload
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import WORKLOAD, Witness
from tests.processes.running import ANSWER_SECONDS_MAX, REPLY_LIMITS, eventually

pytestmark = pytest.mark.slow

CHAIN = {"namespace": "tests", "name": "chain", "version": "1.0.0", "context": {"number": 1}}


@contextmanager
def locked(database_url: str, table: str) -> Iterator[None]:
    """Nobody else reads or writes the table inside."""
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


def request(endpoint: str, frame: bytes) -> bytes:
    """The reply that a REQ socket gets."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    asking = context.socket(zmq.REQ)
    asking.setsockopt(zmq.LINGER, 0)
    try:
        asking.connect(endpoint)
        asking.send(frame)
        assert asking.poll(int(ANSWER_SECONDS_MAX * 1_000)), "no reply came"
        return asking.recv()
    finally:
        asking.close(linger=0)
        context.term()


def command(command_type: str, command_id: str) -> bytes:
    return codec.encode(
        Command(
            command_type=command_type,
            command_id=command_id,
            payload=Payload(type=command_type, data=codec.raw({})),
        )
    )


def answer_to_req(endpoint: str) -> Any:
    """What a REQ client of the command socket is told of the daemon's health."""
    frame = request(endpoint, command("HealthCheck", "asked-by-req"))
    reply = codec.decode_command(frame, REPLY_LIMITS)
    assert reply.correlation_id == "asked-by-req"
    return msgspec.json.decode(reply.payload.data)


def test_health_is_told_while_the_engine_waits_for_the_database(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables={"TASKER_DATABASE_LOCK_TIMEOUT_SECONDS": "20ms"})
    worker(running, WORKLOAD, variables=witness.variables)
    with running.client() as client:
        with locked(running.database_url, "tasker_workflow_steps"):
            wanted = {"task_request": CHAIN}
            client.send_command("InitializeTask", wanted, command_id="held-up")
            eventually(lambda: running.said.count("tick_failed") >= 2, "the engine is held up")
            assert msgspec.json.decode(request(running.endpoints["health"], b"{}"))["core_id"]
            assert answer_to_req(running.endpoints["commands"])["sessions"] == 1
            with running.client() as another:
                assert another.ask("HealthCheck")["core_id"] == "core-1"
        reply = client.receive()
    assert reply.correlation_id == "held-up"
    assert reply.payload.type != ERROR, bytes(reply.payload.data)
    running.await_task(msgspec.json.decode(reply.payload.data)["task_id"])
    assert "message_poisonous" not in running.said


def test_a_health_socket_answers_whatever_it_is_asked(daemon: StartDaemon) -> None:
    running = daemon()
    for question in (b"", b"how are you?", b"\xff\x00", b"x" * 60_000):
        answer = msgspec.json.decode(request(running.endpoints["health"], question))
        assert answer["core_id"] == "core-1"
    with running.client() as client:
        told = client.ask("QueryAnalytics", {"kind": "SystemHealth"})
        assert [core["core_id"] for core in told["cores"]] == ["core-1"]
