"""The worker's loop: the one thread that owns the sockets; handlers run elsewhere."""

import logging
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

import zmq

from tasker_zmq.clock import Clock, IdMaker
from tasker_zmq.domain.ids import BatchUuid
from tasker_zmq.protocol.commands import (
    CancelSteps,
    HeartbeatReceived,
    InHand,
    RegisterWorker,
    ResultsRecorded,
    StartConfirmed,
    WorkerGoodbye,
    WorkerRegistered,
)
from tasker_zmq.protocol.management import Shutdown
from tasker_zmq.protocol.messages import BatchError
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.batches import BatchesInHand, merged
from tasker_zmq.worker.confirming import UnconfirmedRuns
from tasker_zmq.worker.control import News, Phase
from tasker_zmq.worker.corelink import CoreLink, LinkParts
from tasker_zmq.worker.executors.executor import LOOP_SLEEP_SECONDS_MAX, EventInbox, Executor
from tasker_zmq.worker.intake import understand
from tasker_zmq.worker.links import Hands, Links
from tasker_zmq.worker.outbox import Outbox
from tasker_zmq.worker.results import Results
from tasker_zmq.worker.runs import Outcome, Progress, RunEvent, RunKey, cancelled, runs_of
from tasker_zmq.worker.watch import Watch

FLUSH_SECONDS_MAX: Final = 2.0
GOODBYE_SECONDS_MAX: Final = 1.0

_log = logging.getLogger(__name__)


class StopPhase(StrEnum):
    """How far a graceful stop has come."""

    SERVING = "serving"
    DRAINING = "draining"
    FLUSHING = "flushing"
    LEAVING = "leaving"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What the loop is put together from; `registration` lacks only what is in hand."""

    commands_urls: tuple[str, ...]  # of one core, or of several on one database
    drain_seconds: float
    registration: RegisterWorker
    executor: Executor
    inbox: EventInbox
    outbox: Outbox
    clock: Clock
    ids: IdMaker


class Worker:
    """One worker process: registers, runs the steps it is sent, reports each, and leaves."""

    def __init__(self, parts: WorkerParts, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._parts = parts
        self._clock = parts.clock
        self._registered = False
        self._unconfirmed = UnconfirmedRuns()
        self._batches = BatchesInHand(parts.registration.worker_name)
        for batch_id in parts.outbox.batch_ids():  # a former process of this name ran them
            self._batches.remember(batch_id)
        self._links = Links(
            parts.commands_urls,
            LinkParts(
                context=context,
                worker_name=parts.registration.worker_name,
                clock=parts.clock,
                ids=parts.ids,
            ),
            Hands(registration=parts.registration, in_hand=self._in_hand),
        )
        self._results = Results(parts.outbox, parts.clock, self._links.owner)
        self._stop_asked = False
        self._stop = StopPhase.SERVING
        self._stop_due = 0.0
        self._returned: list[InHand] = []
        self._exit_code = 0
        self._watch = Watch(parts.inbox)

    def run(self) -> int:
        """Serve until asked to stop; the process's exit code."""
        self._parts.executor.start()
        try:
            while self._stop is not StopPhase.DONE:
                self._turn()
        finally:
            self._parts.executor.stop()
            self._links.close()
        return self._exit_code

    def ask_to_stop(self) -> None:
        """Finish what runs, report it, leave; from any thread and from a signal handler."""
        self._stop_asked = True
        self._parts.inbox.wake()

    def _turn(self) -> None:
        ready = self._sleep()
        now = self._clock.monotonic()
        self._listen(ready, now)
        self._report(self._parts.inbox.take())
        self._parts.executor.expire()
        self._links.turn(self._clock.monotonic())
        if self._unconfirmed:
            self._ask_to_start()
        self._send_results()
        if self._stop_asked or self._stop is not StopPhase.SERVING:
            self._go_on_stopping(self._clock.monotonic())

    def _listen(self, ready: Container[object], now: float) -> None:
        for link in self._links:
            if link.control.sockets.socket in ready:
                for news in link.receive(now):
                    self._hear(link, news, now)
            self._read_plane(link, ready, now)

    def _send_results(self) -> None:
        if self._results.settle():
            self._accept_while_writable()
        for link in self._results.send_due(self._links):
            if link.control.phase is Phase.REGISTERED:
                link.control.seek(self._clock.monotonic(), reason="no result is recorded")

    def _read_plane(self, link: CoreLink, ready: Container[object], now: float) -> None:
        plane = link.plane
        if plane is None:
            return
        if plane.results in ready and plane.read_subscriptions():
            self._parts.outbox.hurry(now=now)
        if plane.steps in ready:
            for frame in plane.batches():
                self._receive_batch(link, frame, now)

    def _hear(self, link: CoreLink, news: News, now: float) -> None:
        match news:
            case WorkerRegistered():
                self._begin_session(link, news, now)
            case HeartbeatReceived():
                self._links.note_cores(link, news.cores)
                link.compare_subscription(news, now, wanted=self._wants_more)
            case ResultsRecorded():
                self._results.forget(news, link)
            case StartConfirmed():
                if self._links.owner(news.batch_id) is link:
                    self._start_confirmed(news)
            case CancelSteps():
                self._cancel(news)
            case Shutdown():
                self.ask_to_stop()

    def _sleep(self) -> Container[object]:
        """Until something arrives or is due; the sockets that have something."""
        now = self._clock.monotonic()
        dues = [self._links.next_due(), self._parts.executor.next_deadline()]
        dues.append(self._results.next_due(self._links))
        if self._unconfirmed and any(e.control.phase is Phase.REGISTERED for e in self._links):
            dues.append(self._unconfirmed.next_due())
        if self._stop is not StopPhase.SERVING:
            dues.append(self._stop_due)
        due = min((each for each in dues if each is not None), default=now + LOOP_SLEEP_SECONDS_MAX)
        seconds = min(max(due - now, 0.0), LOOP_SLEEP_SECONDS_MAX)
        return self._wait(milliseconds=ceil(seconds * 1_000))

    def _wait(self, *, milliseconds: int) -> Container[object]:
        return self._watch.wait(self._links, milliseconds=milliseconds)

    @property
    def wants_to_write(self) -> bool:
        """Whether something is to be said as soon as there is a connection."""
        return any(link.control.wants_to_write for link in self._links)

    @property
    def _wants_more(self) -> bool:
        return self._stop is StopPhase.SERVING and self._results.writable

    def _in_hand(self) -> tuple[InHand, ...]:
        """Open batches, and ended ones of which a result waits: ours until it is recorded."""
        waiting = (InHand(batch_id=batch_id) for batch_id in self._parts.outbox.batch_ids())
        return merged((*self._batches.in_hand(), *waiting))

    def _begin_session(self, link: CoreLink, session: WorkerRegistered, now: float) -> None:
        first, self._registered = not self._registered, True
        self._links.begin(link, session, now)
        self._parts.outbox.hurry(now=now)
        if not self._wants_more:
            link.accept(more=False)
        self._unconfirmed.ask_again(now=now)
        self._judge_templates(session, now, first=first)

    def _judge_templates(self, session: WorkerRegistered, now: float, *, first: bool) -> None:
        refused = False
        for each in session.templates:
            told = {"workflow": each.full_name}
            for warning in each.warnings:
                log(_log, logging.WARNING, Event.WORKFLOW_WARNING, **told, warning=warning)
            if each.verdict == "refused":
                refused = True
                for problem in each.problems or ("the daemon gave no reason",):
                    log(_log, logging.ERROR, Event.WORKFLOW_REFUSED, **told, problem=problem)
        if refused and first:
            self._exit_code = 2
            self._begin_stop(now)

    def _accept_while_writable(self) -> None:
        """No new work while its results could not be kept; what is in hand goes on."""
        if self._stop is StopPhase.SERVING:
            for link in self._links:
                link.accept(more=self._results.writable)

    def _receive_batch(self, link: CoreLink, frame: bytes, now: float) -> None:
        worker_id = self._parts.registration.worker_name
        batch = understand(frame, limits=link.limits, worker_id=worker_id)
        if batch is None:
            return
        if isinstance(batch, BatchError):
            self._links.own(batch.batch_id, link)
            self._results.keep(batch)
            return
        link.note_publication(batch.publication)
        if self._batches.knows(batch.batch_id):
            self._parts.outbox.hurry(now=now, batch_id=batch.batch_id)
            told = {"batch_id": batch.batch_id, "delivery": batch.delivery}
            log(_log, logging.INFO, Event.BATCH_KNOWN_ALREADY, **told)
            return
        self._batches.accept(batch, now=now)
        self._links.own(batch.batch_id, link)
        link.demand.accept(len(batch.steps), now)
        if self._stop is not StopPhase.SERVING:
            keys = tuple((batch.batch_id, each.step_id) for each in batch.steps)
            self._returned += self._batches.give_back(keys)
            return
        runs = runs_of(batch, link.limits)
        if batch.confirm_start and runs:
            self._unconfirmed.hold(batch.batch_id, runs, now=now)
            return
        for run in runs:
            self._parts.executor.submit(run)
        self._end_batch(batch.batch_id)

    def _ask_to_start(self) -> None:
        now = self._clock.monotonic()
        for question in self._unconfirmed.due(self._links.session_of, now=now):
            link = self._links.owner(question.batch_id)
            if link is not None:
                link.control.ask_to_start(question)

    def _start_confirmed(self, answer: StartConfirmed) -> None:
        may, never = self._unconfirmed.confirm(answer)
        for run in may:
            self._parts.executor.submit(run)
        if never:
            self._batches.drop([run.key for run in never])
            told = {"batch_id": answer.batch_id, "steps": len(never)}
            log(_log, logging.WARNING, Event.START_REFUSED, **told)
            self._end_batch(answer.batch_id)

    def _cancel(self, news: CancelSteps) -> None:
        """What waits ends now, as a failure; what runs is told, and ends as it ends."""
        keys = {(each.batch_id, step_id) for each in news.steps for step_id in each.step_ids}
        log(_log, logging.INFO, Event.STEPS_CANCELLED, steps=len(keys), reason=news.reason)
        for run in self._unconfirmed.take(keys):
            self._parts.inbox.put(run.key, cancelled(news.reason))
        self._parts.executor.cancel(keys, news.reason)

    def _report(self, events: Iterable[RunEvent]) -> None:
        timestamp = ""
        for event in events:
            timestamp = timestamp or self._clock.now().isoformat()
            if isinstance(event.what, Outcome):
                self._end_step(event.key, event.what, timestamp)
            else:
                self._send_hint(event.key, event.what, timestamp)

    def _send_hint(self, key: RunKey, progress: Progress, timestamp: str) -> None:
        """Once, if it can be: it is not kept."""
        link = self._links.owner(key[0])
        if link is not None and link.can_publish:
            hint = self._batches.progress(key, progress, timestamp=timestamp)
            if hint is not None:
                self._results.send_hint(hint)

    def _end_step(self, key: RunKey, outcome: Outcome, timestamp: str) -> None:
        result = self._batches.end_step(key, outcome, timestamp=timestamp)
        if result is None:
            return
        self._links.end_step(result.batch_id)
        self._results.keep(result)
        if not outcome.completed or _log.isEnabledFor(logging.DEBUG):
            _log_step(key, outcome)
        self._end_batch(result.batch_id, timestamp)

    def _end_batch(self, batch_id: BatchUuid, timestamp: str | None = None) -> None:
        if not self._batches.is_over(batch_id):
            return
        now = self._clock.monotonic()
        timestamp = timestamp or self._clock.now().isoformat()
        completion = self._batches.end_batch(batch_id, now=now, timestamp=timestamp)
        if completion is not None:
            self._results.keep(completion)

    def _begin_stop(self, now: float) -> None:
        given = (*self._parts.executor.give_back(), *self._unconfirmed.give_back())
        self._returned += self._batches.give_back(tuple(each.key for each in given))
        for link in self._links:
            link.accept(more=False)
        self._stop = StopPhase.DRAINING
        self._stop_due = now + self._parts.drain_seconds
        told = {"running": self._batches.load, "given_back": len(given)}
        log(_log, logging.INFO, Event.WORKER_STOPPING, **told)

    def _go_on_stopping(self, now: float) -> None:
        if self._stop is StopPhase.SERVING:
            self._begin_stop(now)
        late = now >= self._stop_due
        if self._stop is StopPhase.DRAINING and (late or not self._batches.load):
            self._stop = StopPhase.FLUSHING
            self._stop_due = now + FLUSH_SECONDS_MAX
            late = False
        if self._stop is StopPhase.FLUSHING and (late or not len(self._parts.outbox)):
            self._say_goodbye(now)
            late = False
        if self._stop is StopPhase.LEAVING and (late or not self._are_leaving):
            self._stop = StopPhase.DONE
            log(_log, logging.INFO, Event.WORKER_STOPPED, unrecorded=len(self._parts.outbox))

    @property
    def _are_leaving(self) -> bool:
        return any(link.control.phase is Phase.LEAVING for link in self._links)

    def _say_goodbye(self, now: float) -> None:
        self._stop = StopPhase.LEAVING
        self._stop_due = now
        for link in self._links:
            session = link.control.session
            if session is None:
                continue
            # What still runs is not named: the daemon takes these steps for never started.
            goodbye = WorkerGoodbye(
                session_id=session.session_id,
                unfinished=merged(
                    each for each in self._returned if self._links.owner(each.batch_id) is link
                ),
            )
            if link.control.leave(goodbye):
                self._stop_due = now + GOODBYE_SECONDS_MAX


def _log_step(key: RunKey, outcome: Outcome) -> None:
    told: dict[str, object] = {"batch_id": key[0], "step_id": key[1]}
    told["execution_time_ms"] = outcome.execution_time_ms
    if outcome.completed or outcome.error is None:
        log(_log, logging.DEBUG, Event.STEP_COMPLETED, **told)
        return
    told |= {"error_type": outcome.error.error_type, "problem": outcome.error.message}
    told["retryable"] = outcome.error.retryable
    log(_log, logging.WARNING, Event.STEP_FAILED, **told)
