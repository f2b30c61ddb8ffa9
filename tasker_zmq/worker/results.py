"""What became of steps: into the outbox, and out over the data plane while somebody listens."""

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from tasker_zmq.clock import Clock
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import Recorded, ResultsRecorded
from tasker_zmq.protocol.messages import PartialResult
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.corelink import CoreLink, WayOut
from tasker_zmq.worker.outbox import Outbox, Report, Unrecorded, key_of

IN_VAIN: Final = 3  # sendings of one result
IN_VAIN_SECONDS: Final = 5.0

_HEADS: Final = {topic: topics.subscription(topic) for topic in topics.RESULT_TOPICS}

_log = logging.getLogger(__name__)


class Results:
    """The outbox and its ways out; a result of an earlier session goes out under the present one.

    `way_out` tells the link over which a batch's results go; None: there is none at the moment.
    """

    def __init__(self, outbox: Outbox, clock: Clock, way_out: WayOut) -> None:
        self.outbox = outbox
        self._clock = clock
        self._way_out = way_out
        self.writable = True

    def keep(self, report: Report) -> None:
        """Send it, again and again, until it is recorded."""
        self.outbox.add(key_of(report), report, now=self._clock.monotonic())

    def send_hint(self, progress: PartialResult) -> None:
        """Send it once, if it can be."""
        self._publish(self._way_out(progress.batch_id), topics.PARTIAL_RESULT, progress)

    def forget(self, news: ResultsRecorded, link: CoreLink) -> None:
        """What the daemon has for good need not be sent again."""
        link.recorded_at = self._clock.monotonic()
        recorded = [each for each in news.recorded if not _was_moved(each, news, link)]
        self.outbox.recorded(recorded)
        for each in recorded:
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

    def send_due(self, links: Iterable[CoreLink]) -> list[CoreLink]:
        """Publish what is due; returns the links whose results seem to reach nobody.

        A connection that only this side takes for open swallows results without a word.
        """
        if not any(each.can_publish for each in links):
            return []
        now = self._clock.monotonic()
        in_vain: dict[CoreLink, None] = {}
        for entry in self.outbox.due(now):
            link = self._way_out(entry.key.batch_id)
            if link is not None and _is_in_vain(entry, link, now):
                in_vain[link] = None
            if self._publish(link, entry.key.message_type, entry.report, resend=entry.sent):
                self.outbox.sent(entry.key, now=now)
            else:
                self.outbox.later(entry.key, now=now)
        return list(in_vain)

    def next_due(self, links: Iterable[CoreLink]) -> float | None:
        """When `send_due` has something to do; None while nobody listens."""
        return self.outbox.next_due() if any(each.can_publish for each in links) else None

    def _publish(
        self, link: CoreLink | None, topic: str, report: Report, *, resend: int = 0
    ) -> bool:
        """Whether it left."""
        if link is None or link.plane is None:
            return False
        changes: dict[str, object] = {"session_id": link.session_id}
        if resend and isinstance(report, PartialResult):
            changes["resend"] = resend
        told = msgspec.structs.replace(report, **changes)
        return link.plane.publish(topic, codec.encode_frame(_HEADS[topic], told))


def _is_in_vain(entry: Unrecorded, link: CoreLink, now: float) -> bool:
    silent = entry.sent >= IN_VAIN and now - link.recorded_at > IN_VAIN_SECONDS
    return silent and link.can_publish


def _was_moved(entry: Recorded, news: ResultsRecorded, link: CoreLink) -> bool:
    """Refused because its batch lies elsewhere by now: there it is still wanted."""
    return entry.verdict == "rejected" and news.session_id != link.session_id
