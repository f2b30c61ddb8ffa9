"""What every stage of one tick works with."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from tasker_zmq.domain.breaker import Pair
from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.pipeline.contents import ContentsOfTurn
from tasker_zmq.pipeline.directing import Directed
from tasker_zmq.pipeline.state import Changes, CoreState, Session
from tasker_zmq.pipeline.tuning import Chance, Tuning, UuidMaker


class Sign(NamedTuple):
    """That a worker failed with a handler, or did not; `told` by itself, else by its silence."""

    pair: Pair
    failed: bool
    told: bool
    error: str | None = None  # JSON text


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One transaction, one `now`, one core's memory; `changes` wait for the commit."""

    connection: Connection
    state: CoreState
    tuning: Tuning
    now: datetime
    chance: Chance
    make_uuid: UuidMaker
    contents: ContentsOfTurn
    submissions_due: bool = False
    sweep_due: bool = False  # it is time to look for what nobody told of
    changes: Changes = field(default_factory=Changes)
    settled: set[StepId] = field(default_factory=set)  # late successes: not to be sent again
    gone: set[SessionId] = field(default_factory=set)  # sessions that this very tick ends
    heard: set[SessionId] = field(default_factory=set)  # their heartbeats lie in this very tick
    undelivered: list[tuple[SessionId, BatchId]] = field(default_factory=list)
    deaf: dict[SessionId, list[BatchId]] = field(default_factory=dict)
    dropped: list[BatchId] = field(default_factory=list)  # named before, and no more
    begun: dict[SessionId, Session] = field(default_factory=dict)  # sessions, in this very tick
    publications: dict[SessionId, int] = field(default_factory=dict)
    suspect: set[SessionId] = field(default_factory=set)  # found silent for a while in this tick
    managed: set[str] = field(default_factory=set)  # workers about which this tick decided
    barred: set[SessionId] = field(default_factory=set)  # for that they get nothing new
    directed: list[Directed] = field(default_factory=list)  # steps for sessions that were named
    ended: dict[SessionId, set[StepId]] = field(default_factory=dict)  # that sessions had in hand
    signs: list[Sign] = field(default_factory=list)  # for the breakers, in their order

    def end_step(self, session_id: SessionId, step_id: StepId, batch_id: BatchId) -> None:
        """A session has one step less in hand: this very tick may send it another."""
        session = self.state.sessions.get(session_id)
        if session is not None and session.holding.get(step_id) == batch_id:
            self.ended.setdefault(session_id, set()).add(step_id)

    def held_by(self, session: Session) -> int:
        """How many steps a session has in hand, but for those that this tick has heard of."""
        return len(session.holding) - len(self.ended.get(session.session_id, ()))

    def room_of(self, session: Session) -> int:
        """How many more steps a session may be sent."""
        return session.room(self.now, ended=len(self.ended.get(session.session_id, ())))

    def next_publication(self, session_id: SessionId) -> int:
        """The next number of a session's publications, remembered after the commit."""
        session = self.state.sessions[session_id]
        number = self.publications.get(session_id, session.publication) + 1
        if session_id not in self.publications:
            self.changes.then(lambda: self._keep_publication(session_id))
        self.publications[session_id] = number
        return number

    def _keep_publication(self, session_id: SessionId) -> None:
        session = self.state.sessions.get(session_id)
        if session is not None:
            session.publication = self.publications[session_id]
