"""One run of one step, and how it ended: plain values that also cross to a handler process."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.errors import PermanentError, RetryableError
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import NULL, StepBatch, StepError, StepRequest
from tasker_zmq.worker.output import UnfitOutputError

COMPLETED: Final = "completed"
FAILED: Final = "failed"
MESSAGE_CHARACTERS_MAX: Final = 4_000
BACKTRACE_LINES: Final = 5
# What a partial result needs beside its output: ids, names, times, an error of full length.
RESULT_ENVELOPE_BYTES: Final = 16_384

_OUR_FOLDER: Final = str(Path(__file__).parent)

RunKey = tuple[BatchUuid, StepId]


class StepRun(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """A step to run, with the limits of the session that it came by."""

    batch_id: BatchUuid
    request: StepRequest
    output_bytes_max: int
    nesting_max: int

    @property
    def key(self) -> RunKey:
        return (self.batch_id, self.request.step_id)

    @property
    def ids(self) -> Mapping[str, object]:
        """What a log record about it names."""
        return {"batch_id": self.batch_id, "step_id": self.request.step_id}

    @property
    def timeout_seconds(self) -> float | None:
        """None: no limit was asked for."""
        milliseconds = self.request.metadata.timeout_ms
        return milliseconds / 1_000 if milliseconds > 0 else None


def runs_of(batch: StepBatch, limits: WireLimits) -> tuple[StepRun, ...]:
    """A run for each step of a batch."""
    return tuple(
        StepRun(
            batch_id=batch.batch_id,
            request=request,
            output_bytes_max=limits.result_bytes_max - RESULT_ENVELOPE_BYTES,
            nesting_max=limits.nesting_max - 1,  # the message itself is one deep
        )
        for request in batch.steps
    )


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """How a run ended; `output` is exactly what goes on the wire."""

    completed: bool
    output: msgspec.Raw = NULL
    error: StepError | None = None
    execution_time_ms: float = 0.0


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """What a handler said about how far it is."""

    value: msgspec.Raw


class RunEvent(msgspec.Struct, frozen=True):
    """What an executor has to tell about a run."""

    key: RunKey
    what: Outcome | Progress


def failed(
    error_type: str, message: str, *, retryable: bool, execution_time_ms: float = 0.0
) -> Outcome:
    """A failure that no exception of the handler's stands for."""
    error = StepError(message=printable(message), error_type=error_type, retryable=retryable)
    return Outcome(completed=False, error=error, execution_time_ms=execution_time_ms)


def failed_by(error: BaseException, execution_time_ms: float) -> Outcome:
    """The failure that `error` stands for: anything may be tried again unless it says otherwise."""
    retry_after = error.retry_after if isinstance(error, RetryableError) else None
    step_error = StepError(
        message=printable(_message_of(error)),
        error_type=type(error).__name__,
        backtrace=backtrace(error.__traceback__),
        retryable=not isinstance(error, PermanentError | UnfitOutputError),
        retry_after_seconds=retry_after,
    )
    return Outcome(completed=False, error=step_error, execution_time_ms=execution_time_ms)


def cancelled(reason: str, *, execution_time_ms: float = 0.0) -> Outcome:
    """The failure of a run whose result nobody wants."""
    message = f"cancelled: {reason}" if reason else "cancelled"
    return failed("Cancelled", message, retryable=False, execution_time_ms=execution_time_ms)


def timed_out(run: StepRun) -> Outcome:
    """The failure of a run that took longer than it may."""
    seconds = run.timeout_seconds or 0.0
    return failed(
        "StepTimeout",
        f"step '{run.request.step_name}' did not end within {seconds:g} s",
        retryable=True,
        execution_time_ms=seconds * 1_000,
    )


def printable(text: str) -> str:
    """`text` as every JSON reader takes it, and not longer than a person reads."""
    clean = text.replace("\x00", "").encode("utf-8", "replace").decode()
    if len(clean) > MESSAGE_CHARACTERS_MAX:
        return clean[:MESSAGE_CHARACTERS_MAX] + "..."
    return clean


def backtrace(trace: TracebackType | None) -> list[str]:
    """Where it was raised, innermost first, without the frames of the worker itself."""
    every = traceback.extract_tb(trace)
    frames = [each for each in every if not each.filename.startswith(_OUR_FOLDER)] or every
    lines = [f"{each.filename}:{each.lineno} in {each.name}" for each in reversed(frames)]
    return [printable(line)[:500] for line in lines[:BACKTRACE_LINES]]


def _message_of(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a handler's exception may fail to print itself
        return f"{type(error).__name__}, whose message cannot be shown"
