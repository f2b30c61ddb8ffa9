"""Which workers this core reaches, written to rows: others can only ask those.

Reached is who subscribed to its session's topic, and gives signs of life; not reached who is deaf,
or fell silent. Written together: what changed a moment after it did, all once a minute, for what
was not looked at for long is not known.
"""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Final

from tasker_zmq.pipeline.reached import Mark, is_reachable
from tasker_zmq.pipeline.resting import horizon
from tasker_zmq.pipeline.state import Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.store import reachability as store

VERIFIED_EVERY: Final = timedelta(minutes=1)


def note_deaf(turn: Turn, session: Session) -> None:
    """It gives signs of life, and gets nothing."""

    def note() -> None:
        session.deaf = True
        turn.state.reached.note(session.worker_name, turn.now)

    turn.changes.then(note)


def note_gone(turn: Turn, session: Session, *, silent: bool) -> None:
    """Its session is over; `silent`: because nothing was heard of it."""
    if session.registration_id is not None:
        note = turn.state.reached.note
        turn.changes.then(partial(note, session.worker_name, turn.now, silent=silent))


def write(turn: Turn) -> None:
    """Write who is reached and who is not, when it is time: no statement in most ticks."""
    reached, now = turn.state.reached, turn.now
    until = horizon(turn.state, turn.tuning, now)
    verify = reached.verified_at is None or until - reached.verified_at >= VERIFIED_EVERY
    if not verify and (reached.due_at is None or now < reached.due_at):
        return
    marks = dict(reached.marks)
    sessions = _by_worker(turn.state.sessions.values(), None if verify else frozenset(marks))
    found = {name: _verdict(sessions.get(name, []), marks.get(name)) for name in marks}
    told = {
        name: verdict
        for name, verdict in found.items()
        if verdict is not reached.told.get(name) or verdict is False
    }
    if verify:
        told |= {
            name: is_reachable(its)
            for name, its in sessions.items()
            if not all(each.suspect for each in its)
        }
    store.record(turn.connection, turn.state.core_id, told, now=now)
    turn.changes.then(partial(reached.keep, told, marks, now))
    if verify:
        turn.changes.then(partial(setattr, reached, "verified_at", now))


def _by_worker(
    sessions: Iterable[Session], wanted: frozenset[str] | None
) -> dict[str, list[Session]]:
    """Those of the workers `wanted`, None: of all; what never registered is nobody's."""
    found: dict[str, list[Session]] = {}
    for each in sessions:
        if each.registration_id is not None and (wanted is None or each.worker_name in wanted):
            found.setdefault(each.worker_name, []).append(each)
    return found


def _verdict(sessions: list[Session], mark: Mark | None) -> bool | None:
    """None: it has said goodbye, and there is nothing to be known."""
    if sessions:
        return is_reachable(sessions)
    return False if mark is not None and mark.silent else None
