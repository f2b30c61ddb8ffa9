"""What the daemon told workers unasked and wants a sign of: kept until it comes, or is too late.

A ping is answered by any heartbeat, a cancellation by one that names none of the steps any more, a
shutdown by the goodbye. Nothing follows from this but that it is written down.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tasker_zmq.domain.ids import SessionId, StepId

PENDING_MAX: Final = 10_000
PING, CANCEL_STEPS, SHUTDOWN = "Ping", "CancelSteps", "Shutdown"
HEARTBEAT, GOODBYE = "WorkerHeartbeat", "WorkerGoodbye"
# Within how many seconds what was told has an answer.
ANSWERED_WITHIN: Final[Mapping[str, float]] = {PING: 2.0, CANCEL_STEPS: 30.0, SHUTDOWN: 120.0}
_ANSWERS: Final[Mapping[str, frozenset[str]]] = {
    PING: frozenset({HEARTBEAT, GOODBYE}),
    CANCEL_STEPS: frozenset({HEARTBEAT, GOODBYE}),
    SHUTDOWN: frozenset({GOODBYE}),
}


@dataclass(frozen=True, kw_only=True)
class PendingCommand:
    """A command of the daemon's own that has had no answer yet."""

    command_id: str
    command_type: str
    session_id: SessionId
    sent_at: datetime
    due_at: datetime
    step_ids: frozenset[StepId] = field(default_factory=frozenset)

    def is_answered_by(self, kind: str, in_hand: Collection[StepId]) -> bool:
        """Whether a command of that kind, from the same session, is what was waited for."""
        if kind not in _ANSWERS[self.command_type]:
            return False
        return kind == GOODBYE or self.step_ids.isdisjoint(in_hand)


class PendingCommands:
    """By session, the oldest first; bounded, so that silence cannot fill memory."""

    def __init__(self, *, at_most: int = PENDING_MAX) -> None:
        self._at_most = at_most
        self._pending: dict[tuple[SessionId, str], PendingCommand] = {}
        self._ids: dict[SessionId, list[str]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, command: PendingCommand) -> list[PendingCommand]:
        """Wait for an answer; returns what is waited for no longer, since there are too many.

        A command that is told again under one id is waited for anew.
        """
        self._end(command.session_id, command.command_id)
        self._pending[command.session_id, command.command_id] = command
        self._ids.setdefault(command.session_id, []).append(command.command_id)
        return [self._end_oldest() for _ in range(len(self._pending) - self._at_most)]

    def waits_for_steps(self, session_id: SessionId) -> bool:
        """Whether it matters what this session has in hand."""
        return any(each.step_ids for each in self._of(session_id))

    def hear(
        self, session_id: SessionId, kind: str, in_hand: Collection[StepId] = ()
    ) -> list[PendingCommand]:
        """End and return what a command of that kind from this session answers."""
        answered = [each for each in self._of(session_id) if each.is_answered_by(kind, in_hand)]
        for each in answered:
            self._end(session_id, each.command_id)
        return answered

    def expire(self, now: datetime) -> list[PendingCommand]:
        """End and return what should have been answered by now."""
        late = [each for each in self._pending.values() if each.due_at <= now]
        for each in late:
            self._end(each.session_id, each.command_id)
        return late

    def _of(self, session_id: SessionId) -> Iterator[PendingCommand]:
        for command_id in self._ids.get(session_id, ()):
            yield self._pending[session_id, command_id]

    def _end_oldest(self) -> PendingCommand:
        session_id, command_id = next(iter(self._pending))
        oldest = self._pending[session_id, command_id]
        self._end(session_id, command_id)
        return oldest

    def _end(self, session_id: SessionId, command_id: str) -> None:
        if self._pending.pop((session_id, command_id), None) is None:
            return
        ids = self._ids[session_id]
        ids.remove(command_id)
        if not ids:
            del self._ids[session_id]
