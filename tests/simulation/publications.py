"""Every publication that a core sends, looked at as it leaves."""

from tasker_zmq.domain.ids import SessionId
from tasker_zmq.pipeline.inbox import Publication
from tasker_zmq.pipeline.state import LEGACY_SESSION, CoreState
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import StepBatch
from tests.simulation.timeline import ViolationError

DELIVERIES_MAX = 3
LIMITS = WireLimits(steps_bytes_max=1 << 30)


class PublicationWatch:
    """What was published, to whom; `heard` are the topics whose subscription was seen."""

    def __init__(self) -> None:
        self.batches: dict[str, tuple[SessionId, tuple[int, ...]]] = {}
        self.heard: set[bytes] = set()
        self._numbers: dict[SessionId, int] = {}

    def look_at(self, publication: Publication, state: CoreState) -> StepBatch:
        """The batch in it, if it may go there now, and is what it should be."""
        batch = codec.decode_step_batch(publication.topic + publication.body, LIMITS)
        session_id = batch.session_id or LEGACY_SESSION
        told = f"batch {batch.batch_id} of {session_id}"
        steps = tuple(sorted(each.step_id for each in batch.steps))
        known = self.batches.setdefault(batch.batch_id, (session_id, steps))
        if not set(steps) <= set(known[1]):
            raise ViolationError("I5 committed", f"{told} changed its steps")
        if session_id != LEGACY_SESSION:
            self._count(batch.publication or 0, session_id, told)
        if batch.delivery > DELIVERIES_MAX:
            detail = f"{told} is sent the {batch.delivery}th time"
            raise ViolationError("I9 bounded deliveries", detail)
        if publication.topic != _topic(session_id):
            raise ViolationError("I8 its own topic", f"{told} goes to {publication.topic!r}")
        if publication.topic not in self.heard:
            raise ViolationError("subscribed first", f"{told} goes where nobody hears it")
        session = state.sessions.get(session_id)
        if session is not None and session.suspect:
            raise ViolationError("nothing to suspects", f"{told} goes to a silent session")
        return batch

    def _count(self, number: int, session_id: SessionId, told: str) -> None:
        former = self._numbers.get(session_id, 0)
        if number <= former:
            raise ViolationError("publications are numbered", f"{told}: {number} after {former}")
        self._numbers[session_id] = number


def _topic(session_id: SessionId) -> bytes:
    legacy = session_id == LEGACY_SESSION
    return topics.LEGACY_STEPS_TOPIC if legacy else topics.steps_topic(session_id)
