"""Whatever is thrown at a daemon's sockets: it lives, it says what it took, and work goes on."""

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zmq

from tasker_zmq.protocol import codec
from tasker_zmq.protocol.limits import WireLimits
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.corpus import (
    COMMAND_CORPUS,
    RESULT_BYTES_MAX,
    RESULT_CORPUS,
    commands_of_all_kinds,
    partial,
)
from tests.processes.running import Client, RunningDaemon, eventually

pytestmark = pytest.mark.slow

WAIT_MS = 30_000
RESULT_TOPICS = {b"partial_result ", b"batch_completion ", b"batch_error ", b"results "}
LEDGER = "tasker_step_execution_batch_received_results"

TRIPLING = """
from tasker_zmq import step, workflow

@step
def triple(number):
    return number * 3

@step(after=triple)
def show(triple):
    return {"shown": triple}

tripling = workflow("tests/tripling@1.0.0", show)
"""


@pytest.fixture
def served(daemon: StartDaemon, worker: StartWorker) -> RunningDaemon:
    """A daemon on TCP with a worker that triples."""
    running = daemon(transport="tcp")
    worker(running, TRIPLING)
    return running


@pytest.fixture
def connect() -> Iterator[Callable[[int, str], "zmq.Socket[bytes]"]]:
    """Makes sockets that are connected, and closes them."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(kind: int, endpoint: str) -> "zmq.Socket[bytes]":
        made.append(context.socket(kind))
        made[-1].setsockopt(zmq.LINGER, 0)
        if kind == zmq.XPUB:
            made[-1].setsockopt(zmq.XPUB_NODROP, 1)  # a full line is waited for
        made[-1].connect(endpoint)
        return made[-1]

    yield make
    for each in made:
        each.close()
    context.term()


Connect = Callable[[int, str], "zmq.Socket[bytes]"]


def publisher_to(running: RunningDaemon, connect: Connect) -> "zmq.Socket[bytes]":
    """A result socket to which the daemon has subscribed."""
    made = connect(zmq.XPUB, running.endpoints["results"])
    heard: set[bytes] = set()
    while heard != RESULT_TOPICS:
        assert made.poll(WAIT_MS), "the daemon did not subscribe"
        heard.add(made.recv()[1:])
    return made


def prove_that_work_flows(running: RunningDaemon) -> None:
    running.check()
    with running.client() as client:
        task_id = client.submit("tests/tripling@1.0.0", {"number": 14})
    steps = {each["name"]: each for each in running.await_task(task_id)["steps"]}
    assert steps["show"]["results"] == {"shown": 42}
    assert "Traceback" not in running.said


def ledger(running: RunningDaemon) -> list[dict[str, Any]]:
    """The rows of messages that are not of the tripling worker, oldest first."""
    return running.rows(
        f"SELECT message_type, verdict, processing_errors, raw_message_json::text AS text, "  # noqa: S608
        f"raw_bytes FROM {LEDGER} WHERE batch_id IS NULL ORDER BY received_at, id"
    )


def test_each_hostile_result_is_one_row_of_the_ledger_and_work_goes_on(
    served: RunningDaemon, connect: Connect
) -> None:
    publisher = publisher_to(served, connect)
    for frames, _ in RESULT_CORPUS:
        publisher.send_multipart(frames)
    eventually(lambda: len(ledger(served)) >= len(RESULT_CORPUS), "all messages are in the ledger")
    rows = ledger(served)
    assert len(rows) == len(RESULT_CORPUS)
    for (frames, reason), row in zip(RESULT_CORPUS, rows, strict=True):
        raw = b" ".join(frames)
        body = raw.partition(b" ")[2]
        if reason is None:
            assert row["verdict"] == "unknown_batch", frames
            assert row["text"] == body.decode()
            continue
        assert (row["message_type"], row["verdict"]) == ("undecodable", "rejected"), frames
        assert row["processing_errors"]["reason"] == reason, frames
        if row["text"] is None:
            assert bytes(row["raw_bytes"]) == raw[:4_096]
        else:
            assert row["text"] == body.decode()
    prove_that_work_flows(served)


def test_each_hostile_command_is_answered_and_work_goes_on(served: RunningDaemon) -> None:
    with served.client() as client:
        for frames, code in COMMAND_CORPUS:
            client.send(*frames)
            reply = client.receive()
            assert reply.payload.type == "Error", frames
            assert msgspec.json.decode(reply.payload.data)["code"] == code, frames
        for command_type, request, code in commands_of_all_kinds():
            assert client.refusal(command_type, request).code == code, (command_type, request)
    prove_that_work_flows(served)


def test_a_real_session_cannot_be_spoken_for_by_garbage(
    served: RunningDaemon, connect: Connect
) -> None:
    """Foreign sessions, and results of steps that a batch does not carry, change nothing."""
    prove_that_work_flows(served)
    found = served.rows(
        "SELECT b.batch_uuid::text AS batch_id, s.workflow_step_id AS step_id "
        "FROM tasker_step_execution_batches b "
        "JOIN tasker_step_execution_batch_steps s USING (batch_id) ORDER BY b.batch_id"
    )
    before = served.rows("SELECT count(*) AS n FROM tasker_workflow_step_transitions")
    publisher = publisher_to(served, connect)
    sent = 0
    for each in found:
        for status in ("failed", "completed", "in_progress", "nonsense"):
            publisher.send(partial(**each, status=status))
            publisher.send(partial(**each, status=status, session_id="somebody-else"))
            sent += 2
    counting = "SELECT verdict, count(*) AS n FROM {} WHERE batch_id IS NOT NULL GROUP BY 1"

    def verdicts() -> dict[str, int]:
        return {row["verdict"]: row["n"] for row in served.rows(counting.format(LEDGER))}

    eventually(lambda: verdicts().get("rejected", 0) >= sent, "all of them are rejected")
    assert served.rows("SELECT count(*) AS n FROM tasker_workflow_step_transitions") == before
    prove_that_work_flows(served)


def test_junk_on_the_steps_socket_reaches_nobody_and_work_goes_on(
    served: RunningDaemon, connect: Connect
) -> None:
    nosy = connect(zmq.XSUB, served.endpoints["steps"])
    for junk in (b"", b"\x02", b"\x01", b"\x01steps.", b"\x01s", b"\x00", b"\xff" * 1_000):
        nosy.send(junk)
        nosy.send_multipart([junk, b"\x01", junk])
    nosy.send(b"\x01" + b"x" * 5_000)  # libzmq recurses once for each byte of a wish
    for _ in range(3):
        nosy.send(b"\x07junk")
        nosy.send(b"\x01")
        prove_that_work_flows(served)
    assert not nosy.poll(0)


def test_the_health_socket_answers_whatever_is_asked(
    served: RunningDaemon, connect: Connect
) -> None:
    asker = connect(zmq.REQ, served.endpoints["health"])
    for question in ([b""], [b"\xff\x00"], [b"{}", b"{}", b""], [b"x" * 60_000]):
        asker.send_multipart(question)
        assert asker.poll(WAIT_MS)
        assert json.loads(asker.recv())["status"] == "ok"
    prove_that_work_flows(served)


def test_requests_without_their_empty_frame_do_not_silence_the_health_socket(
    served: RunningDaemon, connect: Connect
) -> None:
    """Broken requests, then a frame that ends their connection while they wait to be read."""
    try:
        for _ in range(20):
            dealer = connect(zmq.DEALER, served.endpoints["health"])
            for _ in range(100):
                dealer.send(b"no empty frame before this")
            dealer.send(b"x" * 1_000_000)
            asker = connect(zmq.REQ, served.endpoints["health"])
            asker.send(b"")
            assert asker.poll(WAIT_MS // 6)
        served.stop()
    finally:
        served.kill()


GREETINGS = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "zeros": bytes(10_000),
    "noise": bytes(range(256)) * 100,
    "half a greeting": b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
    "greeting, then noise": b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\xee" * 500,
    "a frame of 8 EiB": b"\xff"
    + bytes(8)
    + b"\x7f\x03\x00NULL"
    + bytes(48)
    + b"\x06"
    + b"\x7f" * 8,
    "nothing": b"",
}


@pytest.mark.parametrize("how", ["close", "reset"])
def test_bytes_that_are_no_zmtp_disturb_nobody(served: RunningDaemon, how: str) -> None:
    left_open = []
    for endpoint in served.endpoints.values():
        port = int(endpoint.rpartition(":")[2])
        for said in GREETINGS.values():
            raw = socket.create_connection(("127.0.0.1", port))
            raw.sendall(said)
            left_open.append(raw)
    prove_that_work_flows(served)
    for raw in left_open:
        if how == "reset":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
    prove_that_work_flows(served)


def test_frames_far_above_the_limits_end_their_own_connection_only(
    served: RunningDaemon, connect: Connect
) -> None:
    publisher = publisher_to(served, connect)
    publisher.send(b"partial_result " + b"x" * (RESULT_BYTES_MAX * 4))
    with Client(served.endpoints["commands"]) as client:
        client.send(b"x" * (8 << 20))
        client.send(os.urandom(2 << 20), b"{}")
    prove_that_work_flows(served)
    assert ledger(served) == []


def test_a_flood_of_garbage_does_not_keep_work_waiting(
    served: RunningDaemon, connect: Connect
) -> None:
    """Every message of the flood is in the ledger, and a task runs meanwhile."""
    publisher = publisher_to(served, connect)
    publisher.setsockopt(zmq.SNDTIMEO, WAIT_MS)
    flood = 3_000
    for number in range(flood):
        publisher.send(b"partial_result {%d" % number)
    prove_that_work_flows(served)
    counting = f"SELECT count(*) AS n FROM {LEDGER} WHERE message_type = 'undecodable'"  # noqa: S608
    eventually(lambda: served.rows(counting) == [{"n": flood}], "the flood is in the ledger")


def test_a_handler_class_is_a_word_and_never_imported(
    daemon: StartDaemon, worker: StartWorker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A template may name any handler; only what a worker registered is run, the rest waits."""
    running = daemon()
    worker(running, TRIPLING)
    trace = tmp_path_factory.mktemp("trace")
    (trace / "tasker_trap.py").write_text(f"open({str(trace / 'sprung')!r}, 'w').close()")
    names = ["os.system", "subprocess.run", "builtins.eval", "tasker_trap.spring"]
    with running.client() as client:
        verdicts = client.ask(
            "PublishTemplates",
            {
                "templates": [
                    {
                        "name": f"trap_{number}",
                        "namespace_name": "tests",
                        "version": "1.0.0",
                        "step_templates": [{"name": "spring", "handler_class": name}],
                    }
                    for number, name in enumerate(names)
                ]
            },
        )["verdicts"]
        assert [each["verdict"] for each in verdicts] == ["published"] * len(names)
        tasks = [
            client.submit(f"tests/trap_{number}@1.0.0", {"command": f"touch {trace}/sprung"})
            for number in range(len(names))
        ]
        prove_that_work_flows(running)
        for task_id in tasks:
            task = client.ask("GetTask", {"task_id": task_id})
            assert [each["state"] for each in task["steps"]] == ["pending"]
    assert sorted(each.name for each in trace.iterdir()) == ["tasker_trap.py"]


def test_a_worker_outlives_whatever_a_daemon_is_made_to_send_it(
    daemon: StartDaemon, worker: StartWorker
) -> None:
    """Contexts and outputs at the edge of what may be sent arrive, and come back."""
    running = daemon()
    source = TRIPLING.replace("number * 3", "number")
    worker(running, source)
    nested: Any = 0
    for _ in range(55):
        nested = [nested]
    values = [
        '\U0001f600 \\ud800 \\\\ " \x7f \u2028',
        9_223_372_036_854_775_807,
        1e308,
        nested,
        {"": {"a.b": None, "$": "\\u0041"}},
        "x" * 500_000,
    ]
    for value in values:
        with running.client() as client:
            task_id = client.submit("tests/tripling@1.0.0", {"number": value})
        steps = {each["name"]: each for each in running.await_task(task_id)["steps"]}
        assert steps["show"]["results"] == {"shown": value}


def test_the_corpus_is_refused_by_the_codec_for_the_same_reasons() -> None:
    for frames, reason in RESULT_CORPUS:
        found = codec.decode_result(frames, WireLimits())
        assert getattr(found, "reason", None) == reason, frames[0][:60]
