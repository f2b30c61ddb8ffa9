import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker_zmq import Context, PermanentError, RetryableError
from tasker_zmq.protocol.commands import ErrorData
from tasker_zmq.protocol.messages import BatchError
from tests.worker.conftest import RunningWorker
from tests.worker.fake_daemon import FakeDaemon, step_request

Start = Callable[..., RunningWorker]


def double(number: int) -> dict[str, int]:
    return {"doubled": number * 2}


def decline() -> None:
    raise PermanentError("card declined")


def test_each_step_is_reported_and_the_completion_accounts_for_all(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    start_worker(double=double, decline=decline, concurrency=1)
    said = daemon.register()
    assert (said.worker_name, said.handlers) == ("worker-1", ("decline", "double"))
    daemon.send(
        step_request(11, "double", {"number": 4}),
        step_request(12, "decline"),
        step_request(13, "double", {"number": 5}),
    )
    partials = [daemon.partial() for _ in range(3)]
    completion = daemon.completion()

    assert [each.step_id for each in partials] == [11, 12, 13]
    assert [each.sequence for each in partials] == [1, 2, 3]
    assert [each.status for each in partials] == ["completed", "failed", "completed"]
    assert {each.worker_id for each in partials} == {"worker-1"}
    assert {each.session_id for each in partials} == {daemon.session_id}
    assert [bytes(each.output) for each in partials] == [
        b'{"doubled":8}',
        b"null",
        b'{"doubled":10}',
    ]
    assert (completion.total_steps, completion.completed_steps, completion.failed_steps) == (
        3,
        2,
        1,
    )
    assert completion.session_id == daemon.session_id
    assert completion.in_progress_steps == 0
    digests = {each.step_id: each.output_digest for each in completion.step_summaries}
    assert digests[partials[0].step_id] == hashlib.sha256(b'{"doubled":8}').hexdigest()
    assert digests[partials[1].step_id] is None
    daemon.record(*partials, completion)


def test_a_partial_result_leaves_while_its_mates_still_run(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    go_on = threading.Event()

    def slow() -> str:
        assert go_on.wait(20)
        return "slow"

    start_worker(slow=slow, quick=lambda: "quick")
    daemon.register()
    daemon.send(step_request(1, "slow"), step_request(2, "quick"))
    first = daemon.partial()
    assert (first.step_id, first.sequence, bytes(first.output)) == (2, 1, b'"quick"')
    assert not go_on.is_set()
    go_on.set()
    second = daemon.partial()
    assert (second.step_id, second.sequence) == (1, 2)
    daemon.record(first, second, daemon.completion())


def test_a_step_gets_its_inputs_by_name_and_may_report_progress(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    def ship(order: dict[str, Any], charge: dict[str, Any], ctx: Context) -> list[object]:
        ctx.progress({"percent": 50})
        return [order["id"], charge["paid"], ctx.attempt, ctx.idempotency_key]

    start_worker(ship=ship, double=double)
    daemon.register()
    # Progress is a hint: it is dropped unless the worker has seen that somebody listens.
    daemon.send(step_request(9, "double", {"number": 1}), batch_id="warm-up")
    daemon.record(daemon.partial(), daemon.completion())
    daemon.send(
        step_request(1, "ship", {"order": {"id": 7}}, previous={"charge": {"paid": 3}}, attempt=1)
    )
    progress, outcome = daemon.partial(), daemon.partial()
    assert (progress.status, progress.sequence) == ("in_progress", 1)
    assert bytes(progress.progress) == b'{"percent":50}'
    assert bytes(outcome.output) == b'[7,3,2,"key-1"]'
    assert outcome.sequence == 2
    daemon.record(outcome, daemon.completion())


def fail_permanently() -> None:
    raise PermanentError("no")


def fail_for_now() -> None:
    raise RetryableError("later", retry_after=7.5)


def fail_somehow() -> None:
    raise ValueError("a \x00 and \ud800")


def leave() -> None:
    raise SystemExit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("handler", "error_type", "retryable", "retry_after"),
    [
        (fail_permanently, "PermanentError", False, None),
        (fail_for_now, "RetryableError", True, 7.5),
        (fail_somehow, "ValueError", True, None),
        (leave, "SystemExit", True, None),
        (interrupt, "KeyboardInterrupt", True, None),
    ],
)
def test_whatever_a_handler_raises_fails_its_step_and_nothing_else(
    daemon: FakeDaemon,
    start_worker: Start,
    handler: Callable[[], None],
    error_type: str,
    retryable: bool,  # noqa: FBT001
    retry_after: float | None,
) -> None:
    start_worker(failing=handler, double=double, concurrency=1)
    daemon.register()
    daemon.send(step_request(1, "failing"), step_request(2, "double", {"number": 1}))
    failure, mate, completion = daemon.partial(), daemon.partial(), daemon.completion()
    assert failure.error is not None
    assert failure.error.error_type == error_type
    assert failure.error.retryable is retryable
    assert failure.error.retry_after_seconds == retry_after
    assert failure.error.backtrace
    assert handler.__name__ in failure.error.backtrace[0]
    assert mate.status == "completed"
    daemon.record(failure, mate, completion)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ({"a": [1, {2, 3}]}, "set at $.a[1]"),
        ({"a": float("nan")}, "nan, which JSON has no word for, at $.a"),
        ({"a": {1: "b"}}, "key 1 (int) at $.a"),
        ([1 << 63], "beyond 64 bits (write it as text) at $[0]"),
        ("\ud800", "surrogate pair at $"),
        (["\x00"], "NUL character at $[0]"),
        ("x" * 60_000, "bytes, at most"),
    ],
)
def test_an_output_that_is_not_json_fails_for_good_and_says_where(
    daemon: FakeDaemon, start_worker: Start, output: object, problem: str
) -> None:
    start_worker(odd=lambda: output)
    daemon.register(result_bytes_max=60_000)
    daemon.send(step_request(1, "odd"))
    failure = daemon.partial()
    assert failure.status == "failed"
    assert failure.error is not None
    assert failure.error.retryable is False
    assert problem in failure.error.message
    daemon.record(failure, daemon.completion())


@pytest.mark.parametrize("name", ["os.system", "__import__", "doubel", "x" * 5_000, "a b\n"])
def test_an_unknown_handler_is_a_failure_that_names_the_known_ones(
    daemon: FakeDaemon, start_worker: Start, name: str
) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send(step_request(1, name))
    failure = daemon.partial()
    assert failure.error is not None
    assert failure.error.error_type == "UnknownHandler"
    assert failure.error.retryable is False
    assert "double" in failure.error.message
    daemon.record(failure, daemon.completion())


def test_a_batch_that_is_known_already_is_not_run_again(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    runs: list[int] = []

    def count(number: int) -> None:
        runs.append(number)

    start_worker(count=count)
    daemon.register()
    daemon.send(step_request(1, "count", {"number": 1}), batch_id="a")
    daemon.record(daemon.partial(), daemon.completion())
    daemon.send(step_request(1, "count", {"number": 2}), batch_id="a", delivery=2)
    daemon.send(step_request(2, "count", {"number": 3}), batch_id="b")
    following = daemon.partial()
    assert following.batch_id == "b"
    assert runs == [1, 3]
    daemon.record(following, daemon.completion())


def test_a_batch_sent_again_hurries_its_unrecorded_results(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send(step_request(1, "double", {"number": 1}))
    first, completion = daemon.partial(), daemon.completion()
    daemon.send(step_request(1, "double", {"number": 1}), delivery=2)
    again = daemon.partial()
    assert (first.resend, again.resend) == (None, 1)
    assert (again.step_id, again.sequence, again.output) == (1, first.sequence, first.output)
    daemon.record(first, completion)


def test_nothing_is_published_before_the_daemon_listens(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    daemon.stop_listening()
    ended = threading.Event()

    def finish() -> str:
        ended.set()
        return "done"

    running = start_worker(finish=finish)
    daemon.register()
    daemon.send(step_request(1, "finish"))
    assert ended.wait(20)
    daemon.listen()
    result = daemon.partial()
    assert result.resend is None  # so this was the first time that it left
    daemon.record(result, daemon.completion())
    assert running.exit_code is None


def test_unrecorded_results_come_again_at_once_when_the_daemon_listens_again(
    daemon: FakeDaemon, start_worker: Start
) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send(step_request(1, "double", {"number": 1}))
    first, completion = daemon.partial(), daemon.completion()
    daemon.stop_listening()
    daemon.listen()
    again = daemon.partial()
    assert again.resend is not None
    assert again.output == first.output
    daemon.record(first, completion)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"batch_id": 7}',
        b'{"steps": []}',
    ],
)
def test_garbage_is_survived_and_work_still_flows(
    daemon: FakeDaemon, start_worker: Start, frame: bytes
) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send_frame(frame)
    daemon.send(step_request(1, "double", {"number": 1}))
    result = daemon.partial()
    assert result.status == "completed"
    daemon.record(result, daemon.completion())


def test_a_broken_batch_with_an_id_is_answered(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send_frame(b'{"batch_id": "broken", "protocol_version": "2.0", "steps": [{}]}')
    answer = daemon.result()
    assert isinstance(answer, BatchError)
    assert (answer.batch_id, answer.session_id) == ("broken", daemon.session_id)
    assert "step_id" in answer.error.message
    daemon.record(answer)
    daemon.send(
        step_request(1, "double", {"number": 1}),
        step_request(1, "double", {"number": 1}),
        batch_id="twice",
    )
    answer = daemon.result()
    assert isinstance(answer, BatchError)
    assert "twice" in answer.error.message
    daemon.record(answer)


def test_an_empty_batch_is_completed_at_once(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(double=double)
    daemon.register()
    daemon.send()
    completion = daemon.completion()
    assert completion.total_steps == 0
    daemon.record(completion)


def test_an_unknown_reply_changes_nothing(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(double=double)
    daemon.register()
    stray = ErrorData(code="unknown_session", message="?")
    daemon.tell(daemon.worker, "Reply", "Error", stray, "never-asked")
    daemon.router.send_multipart([daemon.worker, b"garbage"])
    daemon.send(step_request(1, "double", {"number": 1}))
    daemon.record(daemon.partial(), daemon.completion())
