"""Tasks that wait for their time: the first core that sees it come makes them its own."""

from datetime import datetime
from functools import partial

from tasker_zmq.pipeline import advance
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.store import steps as store


def start_due(turn: Turn) -> list[Entry]:
    """The first steps of tasks whose time has come; looked for at their time and at each sweep."""
    state, tuning, now = turn.state, turn.tuning, turn.now
    come = state.scheduled_at is not None and state.scheduled_at <= now
    if state.draining or not (come or turn.sweep_due):
        return []
    claimed = store.claim_scheduled(
        turn.connection, core_id=state.core_id, now=now, at_most=tuning.sweep_tasks_max
    )
    if claimed.task_ids:  # what was released may wait for a retry
        upcoming = store.next_retry(turn.connection, core_id=state.core_id)
        turn.changes.then(partial(state.set_next_retry, upcoming))
    there_are_more = len(claimed.task_ids) == tuning.sweep_tasks_max
    again_at = now if there_are_more else store.next_scheduled(turn.connection, now=now)
    turn.changes.then(partial(look_at, state, again_at))
    return advance.entries(turn, claimed.ready)


def look_at(state: CoreState, at: datetime | None) -> None:
    """Look for tasks whose time has come at this moment; None: at the next sweep."""
    state.scheduled_at = at


def look_no_later(state: CoreState, at: datetime) -> None:
    """A task was made that is due then."""
    state.scheduled_at = min(state.scheduled_at or at, at)
