"""Heartbeats that wait to be written: what is new in them soon, that they go on now and then.

The core itself goes by what it hears. Rows are for others: for people, and for SQL that leaves out
a worker of which nothing was heard for two minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tasker_zmq.domain.ids import SessionId
from tasker_zmq.store.workers import Beat

if TYPE_CHECKING:
    from tasker_zmq.pipeline.state import Session

UNCHANGED_EVERY: Final = timedelta(seconds=15)
_GROUPED: Final = UNCHANGED_EVERY / 2  # whoever was written longer ago goes along with others


@dataclass
class Beats:
    """The last of each session, unwritten; `due_at`: when to write, None: there is none."""

    due_at: datetime | None = None
    _waiting: dict[SessionId, tuple["Session", Beat]] = field(default_factory=dict)
    _at_once: set[SessionId] = field(default_factory=set)
    _written_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def note(
        self, session: "Session", beat: Beat, *, interval_seconds: float, at_once: bool
    ) -> None:
        """This was heard; `at_once`: the row says so before it is used."""
        id_ = session.session_id
        self._waiting[id_] = (session, beat)
        if at_once:
            self._at_once.add(id_)
        self._due(self._due_of(session, beat, interval_seconds))

    def chosen(self, now: datetime) -> dict[SessionId, Beat]:
        """Those to write when it is time: what is new, and what was not written for a while."""
        return {
            id_: beat
            for id_, (session, beat) in self._waiting.items()
            if id_ in self._at_once
            or session.beat is None
            or _is_new(session.beat, beat)
            or now - session.beat.at >= _GROUPED
        }

    def keep(
        self, written: Mapping[SessionId, Beat], now: datetime, *, interval_seconds: float
    ) -> None:
        """The rows say so now; what came meanwhile goes on waiting."""
        self._written_at, self.due_at = now, None
        for id_, beat in written.items():
            session, latest = self._waiting[id_]
            session.beat = beat
            if not _is_new(beat, latest):  # though it may have come again meanwhile
                self._at_once.discard(id_)
            if latest == beat:
                del self._waiting[id_]
        for session, beat in self._waiting.values():
            self._due(self._due_of(session, beat, interval_seconds))

    def _due_of(self, session: "Session", beat: Beat, interval_seconds: float) -> datetime:
        if session.session_id in self._at_once or self._written_at is None:
            return beat.at
        soon = self._written_at + timedelta(seconds=interval_seconds)
        if session.beat is None or _is_new(session.beat, beat):
            return soon
        return max(soon, session.beat.at + UNCHANGED_EVERY)

    def _due(self, at: datetime) -> None:
        self.due_at = at if self.due_at is None else min(self.due_at, at)


def _is_new(written: Beat, beat: Beat) -> bool:
    return (written.load, written.credit) != (beat.load, beat.credit)
