"""A worker with several cores: it finds them, grants each a part, and takes its batches along."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from tasker_zmq.protocol.commands import RegisterWorker
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.worker.links import means_the_same
from tests.worker.conftest import RunningWorker
from tests.worker.fake_daemon import WHOLE_CREDIT, FakeDaemon, step_request
from tests.worker.test_worker_sessions import Gate

Start = Callable[..., RunningWorker]
BEAT = 0.4  # three of them unanswered, and a core is taken for gone


@pytest.fixture(params=["tcp"])
def daemon(zmq_context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[FakeDaemon]:
    """The first core, by TCP alone."""
    yield from _daemon(zmq_context, "core-1")


@pytest.fixture
def other(zmq_context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[FakeDaemon]:
    yield from _daemon(zmq_context, "core-2")


def _daemon(context: "zmq.Context[zmq.Socket[bytes]]", core_id: str) -> Iterator[FakeDaemon]:
    made = FakeDaemon(
        context, steps="tcp://127.0.0.1:*", results="tcp://127.0.0.1:*", core_id=core_id
    )
    made.listen()
    yield made
    made.close()


@pytest.fixture
def gate() -> Gate:
    return Gate()


class Answering:
    """Another core that lives: its heartbeats are answered beside what the test does."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.is_set():
            if self._daemon.router.poll(10):
                self._daemon._on_heartbeat(self._daemon.asked("WorkerHeartbeat"))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def both(daemon: FakeDaemon, other: FakeDaemon) -> tuple[RegisterWorker, RegisterWorker]:
    """Let the worker in at both cores; the first one tells it of the second."""
    daemon.cores = other.cores = (daemon.address, other.address)
    return daemon.register(heartbeat_seconds=BEAT), other.register(heartbeat_seconds=BEAT)


def in_hand(said: RegisterWorker) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.batch_id, each.step_ids) for each in said.in_hand]


def test_a_core_that_another_tells_of_is_registered_with_under_the_same_instance(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    first, second = both(daemon, other)
    assert first.instance == second.instance == "life-1"
    assert (first.credit, second.registrations) == (None, 2)
    assert second.former_session_id is None
    assert second.former_session_ids == ()


def test_a_core_that_begins_later_is_told_of_by_heartbeats(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    daemon.cores = (daemon.address,)
    daemon.register(heartbeat_seconds=BEAT)
    daemon.await_beat(lambda beat: beat.credit is None)
    daemon.cores = (daemon.address, other.address)
    with Answering(daemon):
        other.register()


def test_results_go_to_the_core_that_sent_their_batch(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    both(daemon, other)
    other.send(step_request(2, "echo", {"text": "two"}), batch_id="batch-2")
    daemon.send(step_request(1, "echo", {"text": "one"}), batch_id="batch-1")
    for each, number, session_id in ((daemon, 1, "session-1"), (other, 2, "core-2-session-1")):
        result, completion = each.partial(), each.completion()
        assert (result.step_id, result.session_id) == (number, session_id)
        each.record(result, completion)


def test_heartbeats_name_only_what_came_from_that_core(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate)
    both(daemon, other)
    daemon.send(step_request(1, "gate"), batch_id="batch-1")
    other.send(step_request(2, "gate"), step_request(3, "gate"), batch_id="batch-2")
    beat = other.await_beat(lambda beat: bool(beat.in_hand))
    assert (beat.current_load, [each.batch_id for each in beat.in_hand]) == (2, ["batch-2"])
    beat = daemon.await_beat(lambda beat: bool(beat.in_hand))
    assert (beat.current_load, [each.batch_id for each in beat.in_hand]) == (1, ["batch-1"])
    gate.opened.set()


def test_credit_is_shared_out_and_goes_where_it_is_used(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate)
    both(daemon, other)
    half = WHOLE_CREDIT // 2
    with Answering(other):
        daemon.await_beat(lambda beat: beat.credit == half)
        daemon.send(*(step_request(each, "gate") for each in range(1, half + 1)))
        assert daemon.await_beat(lambda beat: beat.credit != half).credit == WHOLE_CREDIT - 1
        gate.opened.set()
    assert other.await_beat(lambda beat: beat.credit != half).credit == 1


def test_what_a_dead_core_sent_is_taken_to_the_other_and_its_results_too(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate, echo=lambda text: text)
    both(daemon, other)
    daemon.send(step_request(1, "gate"), batch_id="batch-1")
    daemon.send(step_request(2, "echo", {"text": "hello"}), batch_id="batch-2")
    assert gate.entered.acquire(timeout=20)
    assert daemon.partial().step_id == 2
    daemon.close()
    said = other.register(heartbeat_seconds=BEAT)
    assert sorted(in_hand(said)) == [("batch-1", (1,)), ("batch-2", ())]
    assert said.former_session_id == "core-2-session-1"
    assert said.former_session_ids == ("session-1",)
    gate.opened.set()
    results = [other.result() for _ in range(4)]
    assert {each.session_id for each in results} == {"core-2-session-2"}
    other.record(*results)


def test_a_core_that_is_named_no_more_and_does_not_answer_is_let_go(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    both(daemon, other)
    daemon.await_beat(lambda beat: beat.credit == WHOLE_CREDIT // 2)
    other.close()
    daemon.cores = (daemon.address,)
    daemon.await_beat(lambda beat: beat.credit is None)  # there is nobody to share with


def test_a_core_that_comes_back_gets_a_new_link_and_no_batch_of_the_others(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate)
    both(daemon, other)
    daemon.send(step_request(1, "gate"))
    assert gate.entered.acquire(timeout=20)
    daemon.answers_heartbeats = False
    assert in_hand(other.register(heartbeat_seconds=BEAT)) == [("batch-1", (1,))]
    with Answering(other):
        said = daemon.register(heartbeat_seconds=BEAT)
        while said.in_hand:  # begun before the batch went elsewhere
            said = daemon.register(heartbeat_seconds=BEAT)
        daemon.answers_heartbeats = True
        daemon.await_beat(lambda beat: beat.in_hand == ())
    gate.opened.set()
    other.record(other.partial(), other.completion())


def test_without_a_core_that_lives_everything_waits_for_whichever_comes_back(
    daemon: FakeDaemon,
    other: FakeDaemon,
    start_worker: Start,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasker_zmq.worker.control.REPLY_SECONDS", 0.05)
    start_worker(gate=gate)
    both(daemon, other)
    daemon.send(step_request(1, "gate"), batch_id="batch-1")
    other.send(step_request(2, "gate"), batch_id="batch-2")
    assert gate.entered.acquire(timeout=20)
    assert gate.entered.acquire(timeout=20)
    daemon.close()
    while len(in_hand(other.register(heartbeat_seconds=BEAT))) < 2:
        pass
    gate.opened.set()
    results = [other.result() for _ in range(4)]
    other.record(*results)


@pytest.mark.parametrize(
    ("commands", "told_at", "followed"),
    [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", True),
        ("ipc:///run/core-2", "ipc:///run/core-1", True),
        ("tcp://127.0.0.1:1", "tcp://10.0.0.1:2", False),
        ("ipc:///run/core-2", "tcp://10.0.0.1:2", False),
        ("tcp://10.0.0.2:1", "tcp://10.0.0.1:2", True),
        ("tcp://10.0.0.2:1", "tcp://127.0.0.1:2", True),
    ],
)
def test_an_address_that_another_machine_calls_its_own_is_not_followed(
    commands: str, told_at: str, *, followed: bool
) -> None:
    assert means_the_same(commands, told_at=told_at) is followed


def test_a_stop_says_goodbye_to_each_core_with_what_it_sent(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    running = start_worker(gate=gate, concurrency=1, drain_seconds=60.0)
    both(daemon, other)
    daemon.send(step_request(1, "gate"), batch_id="batch-1")
    assert gate.entered.acquire(timeout=20)
    other.send(step_request(2, "gate"), batch_id="batch-2")
    other.await_beat(lambda beat: bool(beat.in_hand))
    with Answering(other):
        daemon.await_beat(lambda beat: bool(beat.in_hand))
        running.stop()
        daemon.await_unsubscription()
        gate.opened.set()
        results = daemon.partial(), daemon.completion()
    daemon.record(*results)
    goodbyes = daemon.goodbye(), other.goodbye()
    assert [in_hand_of(each.unfinished) for each in goodbyes] == [[], [("batch-2", (2,))]]
    assert running.wait() == 0


def in_hand_of(entries: object) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.batch_id, each.step_ids) for each in entries]  # type: ignore[attr-defined]


def test_a_link_that_comes_late_replaces_the_one_by_another_address(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, tmp_path: Path
) -> None:
    """It stands before the other one in the list."""
    late = f"ipc://{tmp_path}/c"
    running = start_worker(commands_urls=(late, daemon.url), echo=lambda text: text)
    daemon.register(heartbeat_seconds=BEAT)
    daemon.router.bind(late)
    daemon.register(heartbeat_seconds=BEAT, wait_for_subscription=False)
    daemon.await_beat(lambda beat: beat.session_id == "session-2" and beat.credit is None)
    assert [each.url for each in running.worker._links] == [late]
    assert other.heartbeats == []


def test_another_core_than_was_named_is_not_served(
    daemon: FakeDaemon, other: FakeDaemon, start_worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start_worker(echo=lambda text: text)
    daemon.cores = (daemon.address, CoreAddress(core_id="core-7", commands=other.url))
    daemon.register(heartbeat_seconds=BEAT)
    other.register(wait_for_subscription=False)
    daemon.await_beat(lambda beat: beat.credit is None)
    assert "core_not_reachable" in caplog.text


def test_two_addresses_of_one_core_are_one_link(
    daemon: FakeDaemon, start_worker: Start, tmp_path: Path
) -> None:
    daemon.router.bind(f"ipc://{tmp_path}/c")
    running = start_worker(
        commands_urls=(daemon.url, f"ipc://{tmp_path}/c"), echo=lambda text: text
    )
    daemon.register(heartbeat_seconds=BEAT, wait_for_subscription=False)
    daemon.register(heartbeat_seconds=BEAT, wait_for_subscription=False)
    daemon.await_beat(lambda beat: beat.session_id == "session-2" and beat.credit is None)
    assert len(list(running.worker._links)) == 1
