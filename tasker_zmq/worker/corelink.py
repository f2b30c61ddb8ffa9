"""The link to one core: the conversation, the session that came of it, and its sockets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import zmq

from tasker_zmq.clock import Clock, IdMaker
from tasker_zmq.domain.ids import BatchUuid, SessionId
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.commands import (
    HeartbeatReceived,
    RegisterWorker,
    WorkerHeartbeat,
    WorkerRegistered,
)
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.worker.control import ControlLink, News, Phase, Voice
from tasker_zmq.worker.demand import Demand
from tasker_zmq.worker.sockets import CommandSocket, DataSockets

UNFIT_ENDPOINT_WAIT_SECONDS: Final = 5.0
UNSEEN_BEATS_MAX: Final = 3  # a subscription takes a moment to arrive


class Speaker(Protocol):
    """Who knows what is to be said over a link."""

    def describe(self, link: "CoreLink") -> RegisterWorker:
        """The worker, with what it has in hand; from then on nothing comes by the old session."""

    def beat(self, link: "CoreLink", session_id: SessionId) -> WorkerHeartbeat:
        """A sign of life."""


@dataclass(frozen=True, kw_only=True)
class LinkParts:
    """What each link of a worker is made from."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    worker_name: str
    clock: Clock
    ids: IdMaker


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a registration has named; `number` is its place among all of this process."""

    number: int = 0
    batch_ids: frozenset[BatchUuid] = frozenset()
    session_ids: tuple[SessionId, ...] = ()


class CoreLink:
    """One core, as this worker sees it; time comes in.

    `core_id` is what the core is thought to be called: told by others, then by itself.
    """

    def __init__(
        self,
        url: str,
        parts: LinkParts,
        speaker: Speaker,
        *,
        core_id: str | None = None,
        learned: bool = False,
    ) -> None:
        self.url = url
        self.core_id = core_id
        self.learned = learned  # from other cores, not from our settings
        self.session: WorkerRegistered | None = None  # the last one
        self.plane: DataSockets | None = None
        self.limits = WireLimits()
        self.cores: tuple[CoreAddress, ...] = ()  # that live, by the core's last word
        self.credit: int | None = None  # what it was granted last
        self.demand = Demand()
        self.claim = Claim()
        self.given_up = False  # until its core answers again
        self.closed = False
        self.recorded_at = parts.clock.monotonic()
        self._context = parts.context
        self._publication = 0
        self._unseen = 0  # answers to heartbeats, one after the other
        self.control = ControlLink(
            lambda: CommandSocket(parts.context, url),
            url=url,
            worker_name=parts.worker_name,
            voice=Voice(
                describe=lambda: speaker.describe(self),
                beat=lambda session_id: speaker.beat(self, session_id),
            ),
            clock=parts.clock,
            ids=parts.ids,
        )

    @property
    def is_live(self) -> bool:
        """Whether it has a session, and a connection as far as can be seen."""
        return self.control.phase is Phase.REGISTERED and self.control.away_since is None

    @property
    def is_in_use(self) -> bool:
        """Whether its core may send work, now or as soon as it has answered."""
        return self.session is not None and self.control.away_since is None

    @property
    def claimed(self) -> frozenset[BatchUuid]:
        """The batches named by a registration that may yet be answered."""
        asking = self.control.phase is Phase.REGISTERING
        return self.claim.batch_ids if asking else frozenset()

    @property
    def session_id(self) -> SessionId | None:
        return self.session.session_id if self.session is not None else None

    @property
    def last_publication(self) -> int:
        return self._publication

    @property
    def can_publish(self) -> bool:
        return self.plane is not None and self.plane.wanted(topics.PARTIAL_RESULT)

    def receive(self, now: float) -> list[News]:
        """What its core said; a link that was just closed for another one hears nothing more."""
        return [] if self.closed else self.control.receive(now)

    def begin(self, session: WorkerRegistered, now: float) -> None:
        """Connect the sockets of a new session."""
        self.leave_plane()
        self.session = session
        self.core_id = session.core_id
        self.credit = session.credit
        self.given_up = False
        self.recorded_at = now
        self._publication = self._unseen = 0
        self.limits = WireLimits(
            result_bytes_max=session.limits.result_bytes_max,
            nesting_max=session.limits.nesting_max,
            batch_steps_max=session.limits.batch_steps_max,
        )
        try:
            self.plane = DataSockets(
                self._context,
                steps=session.endpoints.steps,
                results=session.endpoints.results,
                topic=topics.steps_topic(session.session_id),
            )
        except zmq.ZMQError as error:
            reason = f"its endpoints {session.endpoints} cannot be used: {error}"
            self.control.seek(now, reason=reason, wait_seconds=UNFIT_ENDPOINT_WAIT_SECONDS)

    def leave_plane(self) -> None:
        if self.plane is not None:
            self.plane.close()
            self.plane = None

    def batches(self) -> Iterator[bytes]:
        """Frames with work that have arrived."""
        return self.plane.batches() if self.plane is not None else iter(())

    def note_publication(self, number: int | None) -> None:
        self._publication = max(self._publication, number or 0)

    def compare_subscription(self, beat: HeartbeatReceived, now: float, *, wanted: bool) -> None:
        """A connection that only this side takes for open brings no work: make a new one."""
        self._unseen = self._unseen + 1 if wanted and not beat.subscribed else 0
        if self._unseen >= UNSEEN_BEATS_MAX and self.control.phase is Phase.REGISTERED:
            self.control.seek(now, reason="the daemon does not see the subscription to steps")

    def accept(self, *, more: bool) -> None:
        """Whether its core may send more work."""
        if self.plane is not None:
            if more:
                self.plane.accept_more()
            else:
                self.plane.refuse_more()

    def close(self) -> None:
        self.closed = True
        self.control.close()
        self.leave_plane()


WayOut = Callable[[BatchUuid], CoreLink | None]
