"""What a core remembers of a tick, and tells, once that is committed."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.pipeline.state import CoreState, Session
from tasker_zmq.store.steps import Move
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

SAID_GOODBYE, FELL_SILENT, DISABLED = "goodbye", "silence", "disabled"


def tell_gone(session: Session, moves: Sequence[Move], *, why: str) -> None:
    """After the commit: a tick that was rolled back has ended no session."""
    if session.registration_id is None and not moves:
        return  # remembered from before a restart; its worker came back, or held nothing
    log(
        logger,
        logging.INFO if why == SAID_GOODBYE else logging.WARNING,
        Event.SESSION_GONE,
        worker=session.worker_name,
        session_id=session.session_id,
        reason=why,
        given_back=sum(move.uncharged for move in moves),
        lost=sum(move.lost for move in moves),
    )


def note_heard(sessions: Iterable[Session], now: datetime) -> None:
    for session in sessions:
        session.last_heard_at = max(session.last_heard_at, now)


def note_retries(state: CoreState, moves: Iterable[Move]) -> None:
    due = [move.next_attempt_at for move in moves if move.next_attempt_at is not None]
    if due:
        state.set_next_retry(min(due + ([state.next_retry_at] if state.next_retry_at else [])))


def end_steps(
    state: CoreState, released: Iterable[tuple[SessionId, StepId, BatchId]], now: datetime
) -> None:
    """Sessions have these steps no more; how many those were says how many they may hold."""
    ended: Counter[SessionId] = Counter()
    for session_id, step_id, batch_id in released:
        session = state.sessions.get(session_id)
        if session is not None:
            ended[session_id] += session.release([step_id], batch_id)
    for session_id, steps in ended.items():
        state.sessions[session_id].pace.note(steps, now)


def release_batch(state: CoreState, session_id: SessionId, batch_id: BatchId) -> None:
    session = state.sessions.get(session_id)
    if session is not None:
        session.release([s for s, b in session.holding.items() if b == batch_id], batch_id)


def let_go(state: CoreState, batch_id: BatchId) -> None:
    """The batch is another core's by now: whoever had it from here may be sent something else."""
    for session in state.sessions.values():
        if batch_id in session.sent:
            release_batch(state, session.session_id, batch_id)
