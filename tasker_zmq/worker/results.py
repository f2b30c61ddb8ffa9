"""What became of steps: into the outbox, and out over the data plane while somebody listens."""

import logging
from typing import Final

import msgspec

from tasker_zmq.clock import Clock
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import ResultsRecorded
from tasker_zmq.protocol.messages import PartialResult
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.outbox import Outbox, Report, key_of
from tasker_zmq.worker.sockets import DataSockets

IN_VAIN: Final = 3  # sendings of one result
IN_VAIN_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Results:
    """The outbox and its way out; results of earlier sessions go out under the present one."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self.outbox = outbox
        self._clock = clock
        self._plane: DataSockets | None = None
        self._session_id: SessionId | None = None
        self.writable = True
        self._recorded_at = clock.monotonic()

    def use(self, plane: DataSockets | None, session_id: SessionId) -> None:
        """From now on, send over `plane` and under this session; None: there is no way out."""
        self._plane = plane
        self._session_id = session_id
        self._recorded_at = self._clock.monotonic()
        self.outbox.hurry(now=self._clock.monotonic())

    @property
    def can_publish(self) -> bool:
        return self._plane is not None and self._plane.wanted(topics.PARTIAL_RESULT)

    def keep(self, report: Report) -> None:
        """Send it, again and again, until it is recorded."""
        self.outbox.add(key_of(report), report, now=self._clock.monotonic())

    def send_hint(self, progress: PartialResult) -> None:
        """Send it once, if it can be."""
        self._publish(topics.PARTIAL_RESULT, progress)

    def forget(self, news: ResultsRecorded) -> None:
        """What the daemon has for good need not be sent again."""
        self._recorded_at = self._clock.monotonic()
        self.outbox.recorded(news.recorded)
        for each in news.recorded:
            if each.verdict in {"rejected", "unknown_batch"}:
                told = msgspec.structs.asdict(each)
                log(_log, logging.WARNING, Event.RESULT_NOT_TAKEN, **told)

    def settle(self) -> bool:
        """Have the outbox write down what changed; whether it went from one state to the other.

        `writable` tells which state it is in now. What cannot be written is still sent.
        """
        problem = self.outbox.settle(now=self._clock.monotonic())
        if (problem is None) == self.writable:
            return False
        self.writable = problem is None
        if problem is not None:
            log(_log, logging.ERROR, Event.OUTBOX_NOT_WRITABLE, problem=problem)
        else:
            log(_log, logging.INFO, Event.OUTBOX_WRITABLE_AGAIN, unrecorded=len(self.outbox))
        return True

    def send_due(self) -> bool:
        """Publish what is due; whether it seems to reach nobody, again and again.

        A connection that only this side takes for open swallows results without a word.
        """
        if not self.can_publish:
            return False
        now = self._clock.monotonic()
        in_vain = False
        for entry in self.outbox.due(now):
            in_vain |= entry.sent >= IN_VAIN and now - self._recorded_at > IN_VAIN_SECONDS
            if self._publish(entry.key.message_type, entry.report, resend=entry.sent):
                self.outbox.sent(entry.key, now=now)
            else:
                self.outbox.later(entry.key, now=now)
        return in_vain

    def next_due(self) -> float | None:
        """When `send_due` has something to do; None while nobody listens."""
        return self.outbox.next_due() if self.can_publish else None

    def _publish(self, topic: str, report: Report, *, resend: int = 0) -> bool:
        """Whether it left."""
        if self._plane is None:
            return False
        report = msgspec.structs.replace(report, session_id=self._session_id)
        if resend and isinstance(report, PartialResult):
            report = msgspec.structs.replace(report, resend=resend)
        return self._plane.publish(topic, codec.encode_frame(topics.subscription(topic), report))
