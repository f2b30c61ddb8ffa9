"""What people decided about workers, taken from the rows into memory: the same at all cores.

A core is told by NOTIFY; what it did not hear it finds when it looks by itself.
"""

from collections.abc import Sequence
from datetime import datetime

from tasker_zmq.domain.administration import Administration, WorkerMode
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.pipeline.inbox import Received, WorkersManaged
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.store import administration as store


def obey(turn: Turn, inbox: Sequence[Received]) -> list[SessionId]:
    """Read what was decided if that may have changed; the sessions that are to end for it."""
    if not may_have_changed(turn, inbox):
        return []
    state = turn.state
    if state.sessions.administration.pinned_task_ids:
        store.forget_ended(turn.connection)
    decided = store.load(turn.connection)
    turn.changes.then(lambda: _take(state, decided, turn.now))
    sessions = [each for each in state.sessions.values() if each.worker_name in decided.modes]
    turn.barred.update(each.session_id for each in sessions)
    return [
        each.session_id
        for each in sessions
        if decided.mode(each.worker_name) is WorkerMode.DISABLED and each.holding
    ]


def may_have_changed(turn: Turn, inbox: Sequence[Received]) -> bool:
    """Whether rows about workers are to be read: it was decided here, told, or is time to."""
    told = any(isinstance(each, WorkersManaged) for each in inbox)
    return bool(turn.managed) or told or turn.sweep_due or turn.state.administered_at is None


def _take(state: CoreState, decided: Administration, now: datetime) -> None:
    state.administered_at = now
    state.sessions.administer(decided)
    state.viable.pin(decided.pinned_task_ids)
