"""Handlers on one asyncio loop, on a thread of its own; plain functions get a thread each."""

import asyncio
import logging
import threading
from collections.abc import Collection

import msgspec

from tasker_zmq.clock import Clock
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.calling import Surroundings, call, call_async
from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.executors.executor import EventInbox
from tasker_zmq.worker.executors.waiting import WaitingRuns
from tasker_zmq.worker.handlers import Handler
from tasker_zmq.worker.registry import HandlerRegistry
from tasker_zmq.worker.runs import Outcome, Progress, RunKey, StepRun, cancelled, failed, timed_out

_log = logging.getLogger(__name__)


class AsyncExecutor:
    """At most `concurrency` runs at once; a run that takes too long is cancelled."""

    def __init__(
        self, registry: HandlerRegistry, *, concurrency: int, inbox: EventInbox, clock: Clock
    ) -> None:
        self._registry = registry
        self._free = concurrency  # touched by the loop's thread only
        self._inbox = inbox
        self._clock = clock
        self._waiting = WaitingRuns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="steps", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, run: StepRun) -> None:
        self._waiting.put(run)
        self._loop.call_soon_threadsafe(self._fill_slots)

    def expire(self) -> None:
        """Nothing to do: each run watches its own time."""

    def next_deadline(self) -> float | None:
        return None

    def give_back(self) -> tuple[StepRun, ...]:
        return self._waiting.give_back()

    def cancel(self, keys: Collection[RunKey], reason: str) -> None:
        for run in self._waiting.cancel(keys, reason):
            self._inbox.put(run.key, cancelled(reason))
        self._loop.call_soon_threadsafe(self._fill_slots)  # runs that wait on were out for a moment

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            # One turn, so that handlers see their cancellation; who ignores it is left behind.
            self._loop.run_until_complete(asyncio.sleep(0))
        finally:
            self._loop.close()

    def _fill_slots(self) -> None:
        while self._free > 0:
            taken = self._waiting.take_now()
            if taken is None:
                return
            self._free -= 1
            task = self._loop.create_task(self._supervise(*taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _supervise(self, run: StepRun, cancellation: Cancellation) -> None:
        work = asyncio.ensure_future(self._outcome_of(run, cancellation))
        try:
            done, _ = await asyncio.wait({work}, timeout=run.timeout_seconds)
        except asyncio.CancelledError:
            work.cancel()
            raise
        self._waiting.ended(run.key)
        if done:
            self._inbox.put(run.key, work.result())
        else:
            work.cancel()
            cancellation.set("its time is up")
            log(_log, logging.WARNING, Event.STEP_CANCELLED_AT_TIMEOUT, **run.ids)
            self._inbox.put(run.key, timed_out(run))
        self._free += 1
        self._fill_slots()

    async def _outcome_of(self, run: StepRun, cancellation: Cancellation) -> Outcome:
        if cancellation.reason is not None:
            return cancelled(cancellation.reason)
        handler = self._registry.find(run.request.handler_class)
        if handler is None:
            message = self._registry.unknown(run.request.handler_class)
            return failed("UnknownHandler", message, retryable=False)

        def report(value: bytes) -> None:
            self._inbox.put(run.key, Progress(value=msgspec.Raw(value)))

        around = Surroundings(report=report, cancellation=cancellation, clock=self._clock)
        if handler.is_async:
            return await call_async(handler, run, around)
        return await self._on_a_thread(handler, run, around)

    async def _on_a_thread(self, handler: Handler, run: StepRun, around: Surroundings) -> Outcome:
        """A daemon thread: asyncio.to_thread would wait for a hung handler when the worker ends."""
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def work() -> None:
            outcome = call(handler, run, around)
            try:
                self._loop.call_soon_threadsafe(settle, outcome)
            except RuntimeError:
                log(_log, logging.WARNING, Event.LATE_RESULT_DISCARDED, **run.ids)

        threading.Thread(target=work, name=f"step-{run.request.step_id}", daemon=True).start()
        return await future
