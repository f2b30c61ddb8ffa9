"""Run one handler and turn whatever it does into an Outcome: nothing it raises goes further."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from tasker_zmq.clock import Clock
from tasker_zmq.worker.binding import invoke
from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.context import Context, context_from
from tasker_zmq.worker.handlers import Handler
from tasker_zmq.worker.output import encode_output
from tasker_zmq.worker.runs import Outcome, StepRun, cancelled, failed_by

PLAIN: Final = frozenset({dict, list, str, int, float, bool, type(None)})  # surely no awaitables
NOTHING: Final = msgspec.Raw(b"{}")

Report = Callable[[bytes], None]


class Surroundings(NamedTuple):
    """What a run has beside its inputs: where progress goes, who may call it off, the time."""

    report: Report
    cancellation: Cancellation
    clock: Clock


def call(handler: Handler, run: StepRun, around: Surroundings) -> Outcome:
    """Run to the end in this thread; an `async def` handler gets a loop of its own."""
    started = around.clock.monotonic()
    try:
        value = invoke(handler, context_of(run, around))
        if type(value) not in PLAIN and inspect.isawaitable(value):
            value = asyncio.run(_awaited(value, around.cancellation))
        output = _encoded(value, run)
    except BaseException as error:  # noqa: BLE001 - SystemExit of a handler is its failure, not ours
        return _failed(error, around, started)
    return _completed(output, _elapsed_ms(around.clock, started))


async def call_async(handler: Handler, run: StepRun, around: Surroundings) -> Outcome:
    """Run on the running loop; cancellation, too, becomes an Outcome."""
    started = around.clock.monotonic()
    try:
        value = invoke(handler, context_of(run, around))
        if inspect.isawaitable(value):
            value = await _awaited(value, around.cancellation)
        output = _encoded(value, run)
    except BaseException as error:  # noqa: BLE001 - left to itself SystemExit would stop the loop
        return _failed(error, around, started)
    return _completed(output, _elapsed_ms(around.clock, started))


def context_of(run: StepRun, around: Surroundings) -> Context:
    """What the handler may know about this run."""
    report, clock = around.report, around.clock
    request = run.request
    metadata = request.metadata
    timeout = run.timeout_seconds

    def report_value(value: object) -> None:
        report(encode_output(value, bytes_max=run.output_bytes_max, nesting_max=run.nesting_max))

    return context_from(
        task_id=request.task_id,
        step_id=request.step_id,
        step_name=request.step_name,
        batch_id=run.batch_id,
        attempt=metadata.attempt + 1,
        retry_limit=metadata.retry_limit,
        idempotency_key=metadata.idempotency_key,
        timeout_seconds=timeout,
        deadline=None if timeout is None else clock.now() + timedelta(seconds=timeout),
        config=_mapping(request.handler_config),
        worker_config=_mapping(request.worker_configuration),
        context=_mapping(request.task_context),
        previous_results=_mapping(request.previous_results),
        cancellation=around.cancellation,
        report=report_value,
    )


def _mapping(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any]:
    if isinstance(raw, msgspec.UnsetType) or raw == NOTHING:
        return {}
    found = orjson.loads(bytes(raw))
    return found if isinstance(found, dict) else {}


def _encoded(value: object, run: StepRun) -> bytes:
    return encode_output(value, bytes_max=run.output_bytes_max, nesting_max=run.nesting_max)


def _completed(output: bytes, execution_time_ms: float) -> Outcome:
    return Outcome(completed=True, output=msgspec.Raw(output), execution_time_ms=execution_time_ms)


def _elapsed_ms(clock: Clock, started: float) -> float:
    return round((clock.monotonic() - started) * 1_000, 3)


def _failed(error: BaseException, around: Surroundings, started: float) -> Outcome:
    elapsed_ms = _elapsed_ms(around.clock, started)
    reason = around.cancellation.reason
    if reason is not None and isinstance(error, asyncio.CancelledError):
        return cancelled(reason, execution_time_ms=elapsed_ms)
    return failed_by(error, elapsed_ms)


def _cancel_once(task: "asyncio.Task[Any]") -> None:
    if not task.cancelling():  # a second time would end the handler's clean-up after the first
        task.cancel()


async def _awaited(value: Any, cancellation: Cancellation) -> Any:
    """What `value` comes to; the task that awaits it is cancelled when the run is."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine is always run by a task

    def cancel(_: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended
            loop.call_soon_threadsafe(_cancel_once, task)

    cancellation.when_set(cancel)
    return await value
