import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from tasker_zmq import Context
from tasker_zmq.domain.ids import BatchUuid, SessionId
from tasker_zmq.protocol.commands import (
    ErrorData,
    HeartbeatReceived,
    Ping,
    StartConfirmed,
)
from tasker_zmq.protocol.management import Shutdown
from tasker_zmq.worker.confirming import UnconfirmedRuns
from tasker_zmq.worker.corelink import UNSEEN_BEATS_MAX
from tasker_zmq.worker.runs import StepRun
from tests.worker.conftest import RunningWorker
from tests.worker.fake_daemon import WAIT_MS, FakeDaemon, step_request

Start = Callable[..., RunningWorker]


class Counter:
    """A handler that notes with which number it was run."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def __call__(self, number: int) -> int:
        self.runs.append(number)
        return number


@pytest.fixture
def count() -> Counter:
    return Counter()


def forget_session(daemon: FakeDaemon) -> None:
    """As a daemon that was restarted: the worker has to register again."""
    asked = daemon.asked("WorkerHeartbeat")
    daemon.reply(asked, ErrorData(code="unknown_session", message="who are you?"))


def test_only_what_the_daemon_confirms_is_started_and_accounted_for(
    daemon: FakeDaemon, start_worker: Start, count: Counter
) -> None:
    start_worker(count=count, concurrency=1)
    assert daemon.register().former_session_id is None
    steps = [step_request(number, "count", {"number": number}) for number in (1, 2, 3)]
    daemon.send(*steps, confirm_start=True)
    asked, question = daemon.asked_to_start()
    assert (question.session_id, question.batch_id) == ("session-1", "batch-1")
    assert question.step_ids == (1, 2, 3)
    daemon.send(step_request(9, "count", {"number": 9}), batch_id="another")
    other = daemon.partial()
    daemon.record(other, daemon.completion())
    assert count.runs == [9]
    daemon.confirm(asked, 1, 3, 77)
    first, third, completion = daemon.partial(), daemon.partial(), daemon.completion()
    assert [first.step_id, third.step_id] == [1, 3]
    assert (completion.total_steps, completion.completed_steps) == (2, 2)
    assert [each.step_id for each in completion.step_summaries] == [1, 3]
    assert count.runs == [9, 1, 3]
    daemon.record(first, third, completion)


def test_a_batch_of_which_nothing_may_start_ends_without_a_word_and_never_runs(
    daemon: FakeDaemon, start_worker: Start, count: Counter
) -> None:
    start_worker(count=count)
    daemon.register()
    steps = [step_request(1, "count", {"number": 1})]
    daemon.send(*steps, confirm_start=True)
    daemon.confirm(daemon.asked_to_start()[0])
    daemon.send(*steps, delivery=2)
    daemon.send(step_request(2, "count", {"number": 2}), batch_id="another")
    following = daemon.partial()
    assert following.batch_id == "another"
    daemon.record(following, daemon.completion())
    assert count.runs == [2]


def test_the_question_is_asked_until_it_is_answered_and_one_answer_counts(
    daemon: FakeDaemon, start_worker: Start, count: Counter
) -> None:
    start_worker(count=count)
    daemon.register()
    daemon.send(step_request(1, "count", {"number": 1}), confirm_start=True)
    first, question = daemon.asked_to_start()
    again, same = daemon.asked_to_start()
    assert question == same
    daemon.confirm(again, 1)
    daemon.confirm(first, 1)
    daemon.record(daemon.partial(), daemon.completion())
    daemon.send(step_request(2, "count", {"number": 2}), batch_id="another")
    daemon.record(daemon.partial(), daemon.completion())
    assert count.runs == [1, 2]


def test_an_error_confirms_nothing(daemon: FakeDaemon, start_worker: Start, count: Counter) -> None:
    start_worker(count=count)
    daemon.register()
    daemon.send(step_request(1, "count", {"number": 1}), confirm_start=True)
    daemon.reply(daemon.asked_to_start()[0], ErrorData(code="busy", message="not now"))
    asked, _ = daemon.asked_to_start()
    assert count.runs == []
    daemon.confirm(asked, 1)
    daemon.record(daemon.partial(), daemon.completion())


def test_a_new_session_asks_again_and_the_old_ones_answer_starts_nothing(
    daemon: FakeDaemon, start_worker: Start, count: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker_zmq.worker.confirming.ASK_SECONDS", 3_600.0)
    start_worker(count=count)
    daemon.register(heartbeat_seconds=0.1)
    daemon.send(step_request(1, "count", {"number": 1}), confirm_start=True)
    asked, _ = daemon.asked_to_start()
    forget_session(daemon)
    said = daemon.register()
    assert [(each.batch_id, each.step_ids) for each in said.in_hand] == [("batch-1", (1,))]
    now, question = daemon.asked_to_start()
    assert question.session_id == "session-2"
    daemon.confirm(asked, 1)
    daemon.send(step_request(2, "count", {"number": 2}), batch_id="another")
    daemon.record(daemon.partial(), daemon.completion())
    assert count.runs == [2]
    daemon.confirm(now, 1)
    daemon.record(daemon.partial(), daemon.completion())
    assert count.runs == [2, 1]


def test_a_stop_gives_back_what_is_not_confirmed(
    daemon: FakeDaemon, start_worker: Start, count: Counter
) -> None:
    running = start_worker(count=count)
    daemon.register()
    daemon.send(step_request(1, "count", {"number": 1}), confirm_start=True)
    asked, _ = daemon.asked_to_start()
    running.stop()
    daemon.await_unsubscription()
    daemon.confirm(asked, 1)  # too late
    unfinished = daemon.goodbye().unfinished
    assert [(each.batch_id, each.step_ids) for each in unfinished] == [("batch-1", (1,))]
    assert running.wait() == 0
    assert count.runs == []


def test_the_waits_between_questions_double_up_to_fifteen_seconds() -> None:
    unconfirmed = UnconfirmedRuns()
    run = StepRun(
        batch_id=BatchUuid("b"), request=step_request(1, "x"), output_bytes_max=1, nesting_max=1
    )
    unconfirmed.hold(run.batch_id, (run,), now=0.0)
    now, waits = 0.0, []
    for _ in range(7):
        assert len(unconfirmed.due(lambda _: SessionId("s"), now=now)) == 1
        assert unconfirmed.due(lambda _: SessionId("s"), now=now) == []
        due = unconfirmed.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    answer = StartConfirmed(batch_id=run.batch_id, step_ids=(run.request.step_id,))
    assert unconfirmed.confirm(answer) == ([run], [])
    assert unconfirmed.confirm(answer) == ([], [])
    assert unconfirmed.next_due() is None


def test_cancelled_steps_end_as_failures_that_say_why(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    entered = threading.Event()

    def watch(ctx: Context) -> str:
        entered.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        return f"stopped: {ctx.cancellation.reason}"

    start_worker(watch=watch, concurrency=1)
    daemon.register()
    daemon.send(step_request(1, "watch"), step_request(2, "watch"))
    assert entered.wait(20)
    daemon.send(step_request(3, "watch"), batch_id="unconfirmed", confirm_start=True)
    asked, _ = daemon.asked_to_start()
    daemon.cancel(2, 44, reason="the task was cancelled")
    waiting = daemon.partial()
    assert (waiting.step_id, waiting.status) == (2, "failed")
    assert waiting.error is not None
    assert (waiting.error.error_type, waiting.error.retryable) == ("Cancelled", False)
    assert waiting.error.message == "cancelled: the task was cancelled"
    daemon.cancel(3, batch_id="unconfirmed")
    unconfirmed, its_completion = daemon.partial(), daemon.completion()
    assert (unconfirmed.step_id, unconfirmed.status) == (3, "failed")
    daemon.confirm(asked, 3)
    daemon.cancel(1, reason="enough")
    running, completion = daemon.partial(), daemon.completion()
    assert (running.step_id, bytes(running.output)) == (1, b'"stopped: enough"')
    assert (completion.completed_steps, completion.failed_steps) == (1, 1)
    daemon.record(waiting, unconfirmed, its_completion, running, completion)


def test_a_ping_is_answered_by_a_heartbeat_at_once(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(echo=lambda text: text)
    daemon.register(heartbeat_seconds=3_600.0)
    daemon.tell(daemon.worker, "Ping", "Ping", Ping(session_id=daemon.session_id))
    asked = daemon.asked("WorkerHeartbeat")
    daemon.reply(asked, HeartbeatReceived(core_id="c", epoch=1, next_heartbeat_expected_at=""))


def test_a_batch_is_not_run_again_under_a_new_session(
    daemon: FakeDaemon, start_worker: Start, count: Counter
) -> None:
    start_worker(count=count)
    daemon.register(heartbeat_seconds=0.1)
    daemon.send(step_request(1, "count", {"number": 1}))
    daemon.record(daemon.partial(), daemon.completion())
    forget_session(daemon)
    said = daemon.register()
    assert said.former_session_id == "session-1"
    daemon.send(step_request(1, "count", {"number": 1}), delivery=2)
    daemon.send(step_request(2, "count", {"number": 2}), batch_id="another")
    following = daemon.partial()
    assert following.batch_id == "another"
    daemon.record(following, daemon.completion())
    assert count.runs == [1, 2]


class Door:
    """Watches who connects to one of the daemon's sockets."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._events = socket.get_monitor_socket(zmq.EVENT_ACCEPTED)

    def await_connection(self) -> None:
        assert self._events.poll(WAIT_MS), "nobody connected"
        recv_monitor_message(self._events)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._events.close()


@pytest.fixture
def doors(daemon: FakeDaemon) -> Iterator[list[Door]]:
    """Of commands, steps and results."""
    found = [Door(each) for each in (daemon.router, daemon.steps, daemon.results)]
    yield found
    for each in found:
        each.close()


def test_a_worker_that_hears_nothing_connects_everything_anew(
    daemon: FakeDaemon, start_worker: Start, doors: list[Door]
) -> None:
    start_worker(echo=lambda text: text)
    daemon.answers_heartbeats = False
    daemon.register(heartbeat_seconds=0.1)
    for each in doors:
        each.await_connection()
    assert daemon.register().former_session_id == "session-1"
    for each in doors:
        each.await_connection()
    daemon.send(step_request(1, "echo", {"text": "hello"}))
    daemon.record(daemon.partial(), daemon.completion())


def test_a_worker_whose_subscription_is_not_seen_connects_everything_anew(
    daemon: FakeDaemon, start_worker: Start, doors: list[Door]
) -> None:
    start_worker(echo=lambda text: text)
    daemon.sees_subscriptions = False
    daemon.register(heartbeat_seconds=0.1)
    for each in doors:
        each.await_connection()
    assert daemon.register().former_session_id == "session-1"
    assert len(daemon.heartbeats) == UNSEEN_BEATS_MAX
    daemon.sees_subscriptions = True
    for each in doors:
        each.await_connection()
    daemon.send(step_request(1, "echo", {"text": "hello"}))
    daemon.record(daemon.partial(), daemon.completion())


class Hidden:
    """Writes itself like a pydantic model, which we cannot look into."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def model_dump(self, *, mode: str) -> object:
        assert mode == "json"
        return self._inner


class Text(msgspec.Struct):
    """A struct in which a NUL may hide."""

    text: str


class Tagged(msgspec.Struct, tag="\x00"):
    """One that hides it where we do not look."""


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("\x00", "at $"),
        ({"a": [Text("x\x00")]}, "at $.a[0].text"),
        ({"a\x00": 1}, "a key with a NUL character at $"),
        ({"a": Hidden(["\x00"])}, "at $.a[0]"),
        (Tagged(), "the output has a NUL"),
    ],
)
def test_an_escaped_nul_in_an_output_fails_for_good(
    daemon: FakeDaemon, start_worker: Start, output: object, place: str
) -> None:
    start_worker(odd=lambda: output)
    daemon.register()
    daemon.send(step_request(1, "odd"))
    failure = daemon.partial()
    assert failure.error is not None
    assert failure.error.retryable is False
    assert "NUL character" in failure.error.message
    assert place in failure.error.message
    daemon.record(failure, daemon.completion())


def test_the_text_backslash_u0000_is_no_nul(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(odd=lambda: "\\u0000")
    daemon.register()
    daemon.send(step_request(1, "odd"))
    result = daemon.partial()
    assert bytes(result.output) == b'"\\\\u0000"'
    daemon.record(result, daemon.completion())


def test_a_worker_that_is_told_to_end_ends_and_not_by_the_word_of_another_session(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    running = start_worker(echo=lambda text: text)
    daemon.register(heartbeat_seconds=3_600.0)
    for session_id in (SessionId("another"), daemon.session_id):
        assert running.is_alive
        daemon.tell(daemon.worker, "Shutdown", "Shutdown", Shutdown(session_id=session_id))
        daemon.tell(daemon.worker, "Ping", "Ping", Ping(session_id=daemon.session_id))
        if session_id == "another":
            daemon.asked("WorkerHeartbeat")
    asked = daemon.asked("WorkerGoodbye")
    daemon.reply(asked, Ping(session_id=daemon.session_id))
    assert running.wait() == 0
