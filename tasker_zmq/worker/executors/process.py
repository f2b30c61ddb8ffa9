"""Handlers in processes. One that dies takes its own step down and is replaced, nothing else.

Each slot is a thread that owns one child and one pipe to it; what crosses is JSON.
"""

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from functools import partial
from multiprocessing.connection import Connection
from typing import Final, Literal

import msgspec

from tasker_zmq.clock import Clock
from tasker_zmq.domain.ids import BatchUuid, StepId
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.executors.executor import EventInbox
from tasker_zmq.worker.executors.waiting import WaitingRuns
from tasker_zmq.worker.runs import (
    Outcome,
    Progress,
    RunKey,
    StepRun,
    cancelled,
    failed,
    timed_out,
)

READY: Final = b"ready"
CHILD_MODULE: Final = "tasker_zmq.worker.executors.child"
START_SECONDS_MAX: Final = 60.0
EXIT_SECONDS_MAX: Final = 2.0
LAST_BREATH_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)
_answers = msgspec.json.Decoder(Outcome | Progress)


class ChildSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a child imports and how it logs."""

    targets: tuple[str, ...]
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"


class CancelRun(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """To a child: nobody wants the result of this run any more."""

    batch_id: BatchUuid
    step_id: StepId
    reason: str


class ProcessExecutor:
    """`concurrency` children, each running one step at a time; `settings` are told to each."""

    def __init__(
        self, settings: ChildSettings, *, concurrency: int, inbox: EventInbox, clock: Clock
    ) -> None:
        self._inbox = inbox
        self._waiting = WaitingRuns()
        self._stopping = threading.Event()
        self._slots = [
            _Slot(settings, waiting=self._waiting, inbox=inbox, clock=clock, stop=self._stopping)
            for _ in range(concurrency)
        ]

    def start(self) -> None:
        for slot in self._slots:
            slot.thread.start()

    def submit(self, run: StepRun) -> None:
        self._waiting.put(run)

    def expire(self) -> None:
        """Nothing to do: each slot watches its own child."""

    def next_deadline(self) -> float | None:
        return None

    def give_back(self) -> tuple[StepRun, ...]:
        return self._waiting.give_back()

    def cancel(self, keys: Collection[RunKey], reason: str) -> None:
        for run in self._waiting.cancel(keys, reason):
            self._inbox.put(run.key, cancelled(reason))

    def stop(self) -> None:
        self._stopping.set()
        self._waiting.close(len(self._slots))
        for slot in self._slots:
            slot.kill()
        for slot in self._slots:
            slot.thread.join(timeout=EXIT_SECONDS_MAX)


class _Child:
    """A process that runs handlers, and our end of the pipe to it."""

    def __init__(self, settings: ChildSettings) -> None:
        ours, theirs = socket.socketpair()
        self.popen = subprocess.Popen(
            [
                sys.executable,
                "-m",
                CHILD_MODULE,
                str(theirs.fileno()),
                msgspec.json.encode(settings),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        self._lock = threading.Lock()

    def send(self, message: StepRun | CancelRun) -> None:
        """Raises OSError when it is gone."""
        with self._lock:
            self.pipe.send_bytes(msgspec.json.encode(message))

    def cancel(self, key: RunKey, reason: str) -> None:
        """Tell it, from any thread; a child that is gone, or has gone on, needs it no more."""
        with contextlib.suppress(OSError, ValueError):
            self.send(CancelRun(batch_id=key[0], step_id=key[1], reason=reason))

    def close(self, *, patience_seconds: float) -> str:
        """Make sure that it is gone; tells how it ended. One that died by itself is let finish."""
        try:
            self.popen.wait(timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        code = self.popen.wait()
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        self.pipe.close()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _Slot:
    def __init__(
        self,
        settings: ChildSettings,
        *,
        waiting: WaitingRuns,
        inbox: EventInbox,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._waiting = waiting
        self._inbox = inbox
        self._clock = clock
        self._stop = stop
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._serve, name="handler-process", daemon=True)

    def kill(self) -> None:
        """End the child at once, from another thread; the slot's own thread reaps it."""
        with self._lock:
            if self._child is not None:
                self._child.popen.kill()

    def _serve(self) -> None:
        self._ensure_child()  # imports take their time: begin before there is work
        while (taken := self._waiting.take()) is not None and not self._stop.is_set():
            run, cancellation = taken
            outcome = self._run(run, cancellation)
            self._waiting.ended(run.key)
            if not self._stop.is_set():
                self._inbox.put(run.key, outcome)
        self._drop_child()

    def _run(self, run: StepRun, cancellation: Cancellation) -> Outcome:
        started = self._clock.monotonic()
        child = self._ensure_child()
        if child is None:
            return self._crashed(run, 0.0)
        if cancellation.reason is not None:
            return cancelled(cancellation.reason)
        try:
            started = self._clock.monotonic()
            child.send(run)
            cancellation.when_set(partial(child.cancel, run.key))
            outcome = self._answer(child, run, started)
        except (EOFError, OSError, msgspec.DecodeError):
            elapsed_ms = round((self._clock.monotonic() - started) * 1_000, 3)
            return self._crashed(run, elapsed_ms)
        if outcome is None:
            log(_log, logging.WARNING, Event.HANDLER_PROCESS_KILLED_AT_TIMEOUT, **run.ids)
            self._drop_child()
            return timed_out(run)
        return outcome

    def _answer(self, child: _Child, run: StepRun, started: float) -> Outcome | None:
        """The child's outcome, or None when it is too late; raises EOFError when it died."""
        while True:
            left = None
            if run.timeout_seconds is not None:
                left = max(0.0, started + run.timeout_seconds - self._clock.monotonic())
            if not child.pipe.poll(left):
                return None
            answer = _answers.decode(child.pipe.recv_bytes())
            if isinstance(answer, Outcome):
                return answer
            self._inbox.put(run.key, answer)

    def _crashed(self, run: StepRun, elapsed_ms: float) -> Outcome:
        how = self._drop_child(patience_seconds=LAST_BREATH_SECONDS)
        if not self._stop.is_set():
            log(_log, logging.ERROR, Event.HANDLER_PROCESS_CRASHED, **run.ids, ended_by=how)
        message = f"the handler process of step '{run.request.step_name}' died: {how}"
        return failed("HandlerCrashed", message, retryable=True, execution_time_ms=elapsed_ms)

    def _ensure_child(self) -> _Child | None:
        """A child that has imported its handlers; None when it could not."""
        if self._child is not None and self._child.popen.poll() is None:
            return self._child
        self._drop_child()
        with self._lock:
            if self._stop.is_set():
                return None
            child = self._child = _Child(self._settings)
        try:
            if child.pipe.poll(START_SECONDS_MAX) and child.pipe.recv_bytes() == READY:
                return child
        except (EOFError, OSError):
            pass
        if not self._stop.is_set():
            log(_log, logging.ERROR, Event.HANDLER_PROCESS_DID_NOT_START, pid=child.popen.pid)
        return None

    def _drop_child(self, *, patience_seconds: float = 0.0) -> str:
        with self._lock:
            child, self._child = self._child, None
        return (
            "it did not start" if child is None else child.close(patience_seconds=patience_seconds)
        )
