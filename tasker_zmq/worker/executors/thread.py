"""Handlers on threads. A run that takes too long is abandoned and its slot opened anew."""

import itertools
import logging
import threading
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from tasker_zmq.clock import Clock
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.calling import Surroundings, call
from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.executors.executor import LOOK_SECONDS, LOOP_SLEEP_SECONDS_MAX, EventInbox
from tasker_zmq.worker.executors.waiting import WaitingRuns
from tasker_zmq.worker.registry import HandlerRegistry
from tasker_zmq.worker.runs import Outcome, Progress, RunKey, StepRun, cancelled, failed, timed_out

_log = logging.getLogger(__name__)


BRISK_MS: Final = 0.25  # a handler that takes no longer has its slot back at once
BRISK_RUNS: Final = 8  # so many begin between two looks of the loop while handlers are brisk


class _Running(NamedTuple):
    run: StepRun
    cancellation: Cancellation
    deadline: float | None


class ThreadExecutor:
    """`concurrency` daemon threads: one that never comes back cannot keep the process alive."""

    def __init__(
        self, registry: HandlerRegistry, *, concurrency: int, inbox: EventInbox, clock: Clock
    ) -> None:
        self._registry = registry
        self._concurrency = concurrency
        self._inbox = inbox
        self._clock = clock
        self._waiting = WaitingRuns()
        self._running: dict[int, _Running] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._look_at: float | None = None  # None: nothing waits, or slots call one another
        self._taken_before = 0  # runs, when the loop looked last
        self._stalled = False  # every slot has been called: there is nothing to look for

    def start(self) -> None:
        for _ in range(self._concurrency):
            self._open_slot()

    def submit(self, run: StepRun) -> None:
        self._stalled = False
        self._waiting.put(run)

    def expire(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            late = [
                (number, each)
                for number, each in self._running.items()
                if each.deadline is not None and each.deadline <= now
            ]
            for number, _ in late:
                del self._running[number]
        for _, each in late:
            log(_log, logging.WARNING, Event.STEP_THREAD_ABANDONED, **each.run.ids)
            self._inbox.put(each.run.key, timed_out(each.run))
            self._waiting.ended(each.run.key)
            each.cancellation.set("its time is up")
            self._open_slot()
        if self._look_at is not None and now >= self._look_at:
            self._look()

    def _look(self) -> None:
        """Call slots to what waits, if those that are under way do not get on with it."""
        self._look_at = None
        begun = self._waiting.taken - self._taken_before
        if begun < BRISK_RUNS:
            self._waiting.brisk = False
            self._waiting.call(self._concurrency if begun == 0 else 1)
            self._stalled = not self._waiting.has_idle_slots

    def next_deadline(self) -> float | None:
        with self._lock:
            found = [each.deadline for each in self._running.values() if each.deadline is not None]
        looks = bool(self._waiting) and not self._stalled
        self._inbox.look_soon(promised=looks)
        if not looks:
            self._look_at = None
        elif self._look_at is None:
            self._look_at = self._clock.monotonic() + LOOK_SECONDS
            self._taken_before = self._waiting.taken
        if self._look_at is not None:
            found.append(self._look_at)
        return min(found, default=None)

    def give_back(self) -> tuple[StepRun, ...]:
        return self._waiting.give_back()

    def cancel(self, keys: Collection[RunKey], reason: str) -> None:
        for run in self._waiting.cancel(keys, reason):
            self._inbox.put(run.key, cancelled(reason))

    def stop(self) -> None:
        self._waiting.close(self._concurrency)

    def _open_slot(self) -> None:
        number = next(self._numbers)
        thread = threading.Thread(
            target=self._serve, args=(number,), name=f"step-{number}", daemon=True
        )
        thread.start()

    def _serve(self, number: int) -> None:
        while (taken := self._waiting.take()) is not None:
            run, cancellation = taken
            self._begin(number, run, cancellation)
            reason = cancellation.reason
            outcome = self._outcome_of(run, cancellation) if reason is None else cancelled(reason)
            with self._lock:
                ours = self._running.pop(number, None)
            if ours is None:
                log(_log, logging.WARNING, Event.LATE_RESULT_DISCARDED, **run.ids)
                return  # the slot was given to another thread
            self._waiting.ended(run.key)
            brisk = self._waiting.brisk = outcome.execution_time_ms <= BRISK_MS
            self._inbox.put(run.key, outcome, more_follows=brisk and len(self._waiting) > 0)

    def _begin(self, number: int, run: StepRun, cancellation: Cancellation) -> None:
        seconds = run.timeout_seconds
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        with self._lock:
            self._running[number] = _Running(run, cancellation, deadline)
        if seconds is not None and seconds <= LOOP_SLEEP_SECONDS_MAX:
            self._inbox.wake()

    def _outcome_of(self, run: StepRun, cancellation: Cancellation) -> Outcome:
        handler = self._registry.find(run.request.handler_class)
        if handler is None:
            message = self._registry.unknown(run.request.handler_class)
            return failed("UnknownHandler", message, retryable=False)

        def report(value: bytes) -> None:
            self._inbox.put(run.key, Progress(value=msgspec.Raw(value)))

        around = Surroundings(report=report, cancellation=cancellation, clock=self._clock)
        return call(handler, run, around)
