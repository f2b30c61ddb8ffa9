import asyncio
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasker_zmq import Context
from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.worker.executors.asynchronous import AsyncExecutor
from tasker_zmq.worker.executors.executor import EventInbox, Executor
from tasker_zmq.worker.executors.process import ChildSettings, ProcessExecutor
from tasker_zmq.worker.executors.thread import ThreadExecutor
from tasker_zmq.worker.runs import Outcome, RunEvent, StepRun
from tests.worker.conftest import registry_from
from tests.worker.fake_daemon import step_request

HANDLERS = Path(__file__).with_name("handlers_for_processes.py")
WAIT_SECONDS = 30.0


class Bench:
    """An executor and its inbox, driven as the worker's loop drives them."""

    def __init__(self, executor: Executor, inbox: EventInbox) -> None:
        self.executor = executor
        self.inbox = inbox
        self._events: list[RunEvent] = []

    def submit(
        self,
        step_id: int,
        handler: str,
        context: dict[str, Any] | None = None,
        timeout_ms: int = 60_000,
    ) -> None:
        self.executor.submit(
            StepRun(
                batch_id=BatchUuid("b"),
                request=step_request(step_id, handler, context, timeout_ms=timeout_ms),
                output_bytes_max=1 << 20,
                nesting_max=60,
            )
        )

    def cancel(self, step_id: int, *, reason: str = "") -> None:
        self.executor.cancel({(BatchUuid("b"), StepId(step_id))}, reason)

    def event(self) -> RunEvent:
        while not self._events:
            due = self.executor.next_deadline()
            wait = WAIT_SECONDS if due is None else max(0.0, due - SystemClock().monotonic())
            ready, _, _ = select.select([self.inbox], [], [], wait)
            assert ready or due is not None, "no event came"
            self._events += self.inbox.take()
            self.executor.expire()
        return self._events.pop(0)

    def outcome(self) -> tuple[int, Outcome]:
        event = self.event()
        assert isinstance(event.what, Outcome)
        return event.key[1], event.what


Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Callable[[str, int], Bench]]:
    made: list[Bench] = []

    def one(kind: str, concurrency: int = 1, **handlers: Callable[..., Any]) -> Bench:
        inbox, clock = EventInbox(), SystemClock()
        registry = registry_from(**handlers)
        executor: Executor
        if kind == "thread":
            executor = ThreadExecutor(registry, concurrency=concurrency, inbox=inbox, clock=clock)
        elif kind == "async":
            executor = AsyncExecutor(registry, concurrency=concurrency, inbox=inbox, clock=clock)
        else:
            settings = ChildSettings(targets=(str(HANDLERS),))
            executor = ProcessExecutor(settings, concurrency=concurrency, inbox=inbox, clock=clock)
        executor.start()
        made.append(Bench(executor, inbox))
        return made[-1]

    yield one
    for each in made:
        each.executor.stop()
        each.inbox.close()


def double(number: int) -> int:
    return number * 2


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


@pytest.mark.parametrize("kind", ["thread", "async"])
@pytest.mark.parametrize("handler", [double, double_later])
def test_plain_and_async_handlers_run_in_either(
    make: Make, kind: str, handler: Callable[..., Any]
) -> None:
    bench = make(kind, 2, double=handler)
    for number in range(20):
        bench.submit(number, "double", {"number": number})
    outcomes = dict(bench.outcome() for _ in range(20))
    assert {key: bytes(each.output) for key, each in outcomes.items()} == {
        number: str(number * 2).encode() for number in range(20)
    }


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_hanging_handler_times_out_and_its_slot_opens_again(make: Make, kind: str) -> None:
    go_on = threading.Event()
    bench = make(kind, 1, hang=lambda: go_on.wait(20), double=double)
    bench.submit(1, "hang", timeout_ms=20)
    bench.submit(2, "double", {"number": 3})
    late = bench.outcome()[1]
    assert late.error is not None
    assert (late.error.error_type, late.error.retryable) == ("StepTimeout", True)
    assert "0.02 s" in late.error.message
    step_id, mate = bench.outcome()
    assert (step_id, bytes(mate.output)) == (2, b"6")
    go_on.set()  # the abandoned run ends now, and nobody hears of it
    bench.submit(3, "double", {"number": 4})
    assert bench.outcome()[0] == 3


def test_a_coroutine_is_cancelled_at_its_timeout(make: Make) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    bench = make("async", 1, hang=hang)
    bench.submit(1, "hang", timeout_ms=20)
    _, outcome = bench.outcome()
    assert outcome.error is not None
    assert outcome.error.error_type == "StepTimeout"
    assert cancelled.wait(20)


@pytest.mark.parametrize("kind", ["thread", "async"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_exception_that_ends_programs_ends_a_step_only(
    make: Make, kind: str, error: type[BaseException]
) -> None:
    async def raise_later() -> None:
        raise error

    bench = make(kind, 1, leave=raise_later, double=double)
    bench.submit(1, "leave")
    bench.submit(2, "double", {"number": 1})
    _, failure = bench.outcome()
    assert failure.error is not None
    assert failure.error.error_type == error.__name__
    assert bench.outcome()[1].completed


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_what_has_not_started_can_be_taken_back(make: Make, kind: str) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def gate() -> None:
        entered.set()
        assert go_on.wait(20)

    bench = make(kind, 1, gate=gate)
    for number in (1, 2, 3):
        bench.submit(number, "gate")
    assert entered.wait(20)
    assert [each.request.step_id for each in bench.executor.give_back()] == [2, 3]
    go_on.set()
    assert bench.outcome()[0] == 1


def test_a_process_runs_plain_and_async_handlers(make: Make) -> None:
    bench = make("process", 1)
    bench.submit(1, "handlers_for_processes.double", {"number": 4})
    bench.submit(2, "handlers_for_processes.double_later", {"number": 5})
    bench.submit(3, "os.system", {"number": 5})
    assert bytes(bench.outcome()[1].output) == b"8"
    assert bytes(bench.outcome()[1].output) == b"10"
    unknown = bench.outcome()[1].error
    assert unknown is not None
    assert (unknown.error_type, unknown.retryable) == ("UnknownHandler", False)


@pytest.mark.parametrize(("handler", "how"), [("die", "SIGKILL"), ("leave", "exit code 7")])
def test_a_handler_process_that_dies_fails_its_step_and_is_replaced(
    make: Make, handler: str, how: str
) -> None:
    bench = make("process", 1)
    bench.submit(1, f"handlers_for_processes.{handler}")
    bench.submit(2, "handlers_for_processes.double", {"number": 4})
    _, crash = bench.outcome()
    assert crash.error is not None
    assert (crash.error.error_type, crash.error.retryable) == ("HandlerCrashed", True)
    assert how in crash.error.message
    assert bytes(bench.outcome()[1].output) == b"8"


def test_a_hanging_handler_process_is_killed_and_replaced(make: Make) -> None:
    bench = make("process", 1)
    bench.submit(1, "handlers_for_processes.hang", timeout_ms=20)
    bench.submit(2, "handlers_for_processes.double", {"number": 4})
    _, late = bench.outcome()
    assert late.error is not None
    assert (late.error.error_type, late.error.retryable) == ("StepTimeout", True)
    assert bytes(bench.outcome()[1].output) == b"8"


def test_a_process_reports_progress_and_survives_system_exit(make: Make) -> None:
    bench = make("process", 1)
    bench.submit(1, "handlers_for_processes.report")
    progress = bench.event()
    assert not isinstance(progress.what, Outcome)
    assert bytes(progress.what.value) == b'"half"'
    first = bytes(bench.outcome()[1].output)
    bench.submit(2, "handlers_for_processes.refuse")
    assert bench.outcome()[1].error is not None
    bench.submit(3, "handlers_for_processes.report")
    bench.event()
    assert bytes(bench.outcome()[1].output) == first  # the same process still serves


def begun(bench: Bench) -> None:
    """Waits until the run has begun, and told so."""
    assert not isinstance(bench.event().what, Outcome)


def wait_until_cancelled(ctx: Context) -> str:
    ctx.progress("begun")
    while not ctx.cancelled:
        threading.Event().wait(0.001)
    return "stopped"


async def hang_later(ctx: Context) -> None:
    ctx.progress("begun")
    await asyncio.Event().wait()


CANCELLABLE = {"wait_until_cancelled": wait_until_cancelled, "hang_later": hang_later}


def named(kind: str, handler: str) -> str:
    return f"handlers_for_processes.{handler}" if kind == "process" else handler


@pytest.mark.parametrize("kind", ["thread", "async", "process"])
def test_a_running_handler_sees_that_it_is_cancelled_and_ends_as_it_likes(
    make: Make, kind: str
) -> None:
    bench = make(kind, 1, **CANCELLABLE)
    bench.submit(1, named(kind, "wait_until_cancelled"))
    begun(bench)
    bench.cancel(1)
    assert bytes(bench.outcome()[1].output) == b'"stopped"'
    bench.cancel(1)  # it has ended: nothing happens, and the slot is free
    bench.submit(2, named(kind, "wait_until_cancelled"))
    begun(bench)
    bench.cancel(2)
    assert bench.outcome()[0] == 2


@pytest.mark.parametrize("kind", ["thread", "async", "process"])
def test_a_running_coroutine_is_cancelled_wherever_it_runs(make: Make, kind: str) -> None:
    bench = make(kind, 1, **CANCELLABLE)
    bench.submit(1, named(kind, "hang_later"))
    begun(bench)
    bench.cancel(1, reason="nobody wants it")
    error = bench.outcome()[1].error
    assert error is not None
    assert (error.error_type, error.retryable) == ("Cancelled", False)
    assert "nobody wants it" in error.message


@pytest.mark.parametrize("kind", ["thread", "async", "process"])
def test_what_waits_is_dropped_at_once_and_its_neighbours_run(make: Make, kind: str) -> None:
    bench = make(kind, 1, **CANCELLABLE)
    for number in (1, 2, 3):
        bench.submit(number, named(kind, "wait_until_cancelled"))
    begun(bench)
    bench.cancel(2)
    step_id, dropped = bench.outcome()
    assert step_id == 2
    assert dropped.error is not None
    assert (dropped.error.error_type, dropped.execution_time_ms) == ("Cancelled", 0.0)
    bench.cancel(1)
    assert bench.outcome()[0] == 1
    begun(bench)
    bench.cancel(3)
    assert bench.outcome()[0] == 3


def test_a_coroutine_may_clean_up_after_its_time_was_up(make: Make) -> None:
    cleaned = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            cleaned.set()

    bench = make("async", 1, hang=hang)
    bench.submit(1, "hang", timeout_ms=20)
    error = bench.outcome()[1].error
    assert error is not None
    assert error.error_type == "StepTimeout"
    assert cleaned.wait(WAIT_SECONDS)


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_handler_whose_time_was_up_can_see_it(make: Make, kind: str) -> None:
    seen = threading.Event()

    def hang(ctx: Context) -> None:
        wait_until_cancelled(ctx)
        seen.set()

    bench = make(kind, 1, hang=hang)
    bench.submit(1, "hang", timeout_ms=20)
    begun(bench)
    assert bench.outcome()[1].error is not None
    assert seen.wait(WAIT_SECONDS)
