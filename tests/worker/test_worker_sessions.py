import threading
from collections.abc import Callable

import pytest

from tasker_zmq.protocol.commands import ErrorData, TemplateVerdict
from tests.worker.conftest import RunningWorker
from tests.worker.fake_daemon import FakeDaemon, step_request

Start = Callable[..., RunningWorker]


class Gate:
    """A handler that says that it runs and ends when it is let."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        assert self.opened.wait(20)
        return "through"


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_a_heartbeat_says_what_is_in_hand_and_what_was_seen(
    daemon: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate)
    daemon.register(heartbeat_seconds=0.1)
    daemon.send(step_request(1, "gate"), step_request(2, "gate"))
    assert gate.entered.acquire(timeout=20)
    while not daemon.heartbeats or not daemon.heartbeats[-1].in_hand:
        daemon._on_heartbeat(daemon.asked("WorkerHeartbeat"))
    beat = daemon.heartbeats[-1]
    assert (beat.session_id, beat.current_load, beat.last_publication) == ("session-1", 2, 1)
    assert [(each.batch_id, each.step_ids) for each in beat.in_hand] == [("batch-1", (1, 2))]
    gate.opened.set()
    daemon.record(daemon.partial(), daemon.partial(), daemon.completion())


def test_an_unknown_session_registers_again_and_its_steps_run_on(
    daemon: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    start_worker(gate=gate)
    daemon.register(heartbeat_seconds=0.1)
    daemon.send(step_request(1, "gate"))
    assert gate.entered.acquire(timeout=20)
    asked = daemon.asked("WorkerHeartbeat")
    daemon.reply(asked, ErrorData(code="unknown_session", message="who are you?"))
    said = daemon.register()
    assert [(each.batch_id, each.step_ids) for each in said.in_hand] == [("batch-1", (1,))]
    gate.opened.set()
    result = daemon.partial()
    assert (result.session_id, result.status, result.sequence) == ("session-2", "completed", 1)
    daemon.record(result, daemon.completion())


def test_a_new_session_takes_over_batches_whose_results_are_not_recorded(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    daemon.register(heartbeat_seconds=0.1)
    daemon.send(step_request(1, "echo", {"text": "hello"}))
    first, completion = daemon.partial(), daemon.completion()
    asked = daemon.asked("WorkerHeartbeat")
    daemon.reply(asked, ErrorData(code="unknown_session", message="who are you?"))
    said = daemon.register()
    assert [(each.batch_id, each.step_ids) for each in said.in_hand] == [("batch-1", ())]
    again = daemon.partial()
    assert (again.session_id, again.output, again.resend) == ("session-2", first.output, 1)
    daemon.record(first, completion)


def test_unanswered_heartbeats_lead_to_a_new_session(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    start_worker(echo=lambda text: text)
    daemon.answers_heartbeats = False
    daemon.register(heartbeat_seconds=0.1)
    daemon.register()
    assert len(daemon.heartbeats) >= 2
    daemon.send(step_request(1, "echo", {"text": "hello"}))
    result = daemon.partial()
    assert (result.session_id, bytes(result.output)) == ("session-2", b'"hello"')
    daemon.record(result, daemon.completion())


def test_a_refused_registration_is_tried_again_and_its_reason_logged(
    daemon: FakeDaemon,
    start_worker: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasker_zmq.worker.control.REPLY_SECONDS", 0.3)
    start_worker(echo=lambda text: text)
    refusal = ErrorData(code="schema", message="the database is old", hint="tasker-zmq db upgrade")
    daemon.reply(daemon.asked("RegisterWorker"), refusal)
    daemon.register()
    assert "registration_refused_still_trying" in caplog.text


def test_a_stop_finishes_what_runs_and_gives_the_rest_back(
    daemon: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    running = start_worker(gate=gate, concurrency=1, drain_seconds=60.0)
    daemon.register()
    daemon.send(step_request(1, "gate"), step_request(2, "gate"), step_request(3, "gate"))
    assert gate.entered.acquire(timeout=20)
    running.stop()
    daemon.await_unsubscription()
    gate.opened.set()
    result = daemon.partial()
    assert (result.step_id, result.status) == (1, "completed")
    daemon.record(result)
    goodbye = daemon.goodbye()
    assert goodbye.session_id == "session-1"
    assert [(each.batch_id, each.step_ids) for each in goodbye.unfinished] == [("batch-1", (2, 3))]
    assert running.wait() == 0
    assert not gate.entered.acquire(blocking=False)


def test_a_step_that_outlasts_the_drain_is_not_said_to_have_never_started(
    daemon: FakeDaemon, start_worker: Start, gate: Gate
) -> None:
    running = start_worker(gate=gate, drain_seconds=0.01)
    daemon.register()
    daemon.send(step_request(1, "gate"))
    assert gate.entered.acquire(timeout=20)
    running.stop()
    assert daemon.goodbye().unfinished == ()
    assert running.wait() == 0
    gate.opened.set()


def test_a_worker_whose_workflow_is_refused_ends_with_code_2(
    daemon: FakeDaemon, start_worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = start_worker(echo=lambda text: text)
    refused = TemplateVerdict(
        full_name="a/b@1.0.0", verdict="refused", problems=("it changed under its version",)
    )
    daemon.register(verdicts=[refused], wait_for_subscription=False)
    daemon.goodbye()
    assert running.wait() == 2
    problems = [getattr(each, "fields", {}).get("problem") for each in caplog.records]
    assert "it changed under its version" in problems


def test_a_worker_may_start_and_stop_without_a_daemon(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    daemon.router.close()
    running = start_worker(echo=lambda text: text)
    running.stop()
    assert running.wait() == 0
    daemon.router = daemon.steps  # something to poll while the fixture winds up
