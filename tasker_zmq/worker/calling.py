"""Run one handler and turn whatever it does into an Outcome: nothing it raises goes further."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import orjson

from tasker_zmq.clock import Clock
from tasker_zmq.worker.binding import invoke
from tasker_zmq.worker.context import Context
from tasker_zmq.worker.handlers import Handler
from tasker_zmq.worker.output import encode_output
from tasker_zmq.worker.runs import Outcome, StepRun, failed_by

Report = Callable[[bytes], None]


def call(handler: Handler, run: StepRun, *, report: Report, clock: Clock) -> Outcome:
    """Run to the end in this thread; an `async def` handler gets a loop of its own."""
    started = clock.monotonic()
    try:
        value = invoke(handler, context_of(run, report=report, clock=clock))
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        output = _encoded(value, run)
    except BaseException as error:  # noqa: BLE001 - SystemExit of a handler is its failure, not ours
        return failed_by(error, _elapsed_ms(clock, started))
    return _completed(output, _elapsed_ms(clock, started))


async def call_async(handler: Handler, run: StepRun, *, report: Report, clock: Clock) -> Outcome:
    """Run on the running loop; cancellation, too, becomes an Outcome."""
    started = clock.monotonic()
    try:
        value = invoke(handler, context_of(run, report=report, clock=clock))
        if inspect.isawaitable(value):
            value = await value
        output = _encoded(value, run)
    except BaseException as error:  # noqa: BLE001 - left to itself SystemExit would stop the loop
        return failed_by(error, _elapsed_ms(clock, started))
    return _completed(output, _elapsed_ms(clock, started))


def context_of(run: StepRun, *, report: Report, clock: Clock) -> Context:
    """What the handler may know about this run."""
    request = run.request
    metadata = request.metadata
    timeout = run.timeout_seconds

    def report_value(value: object) -> None:
        report(encode_output(value, bytes_max=run.output_bytes_max, nesting_max=run.nesting_max))

    return Context(
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
        context=_mapping(request.task_context),
        previous_results=_mapping(request.previous_results),
        report=report_value,
    )


def _mapping(raw: msgspec.Raw) -> dict[str, Any]:
    found = orjson.loads(bytes(raw))
    return found if isinstance(found, dict) else {}


def _encoded(value: object, run: StepRun) -> bytes:
    return encode_output(value, bytes_max=run.output_bytes_max, nesting_max=run.nesting_max)


def _completed(output: bytes, execution_time_ms: float) -> Outcome:
    return Outcome(completed=True, output=msgspec.Raw(output), execution_time_ms=execution_time_ms)


def _elapsed_ms(clock: Clock, started: float) -> float:
    return round((clock.monotonic() - started) * 1_000, 3)


async def _awaited(value: Any) -> Any:
    return await value
