"""Tasks that wait for their time: the first core that sees it come makes them its own."""

from datetime import datetime, timedelta
from functools import partial

from tasker_zmq.pipeline import advance
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.store import steps as store


def start_due(turn: Turn) -> list[Entry]:
    """The first steps of tasks whose time has come; looked for at their time and at each sweep."""
    state, tuning, now = turn.state, turn.tuning, turn.now
    if state.draining or (state.scheduled_at is not None and now < state.scheduled_at):
        return []
    claimed = store.claim_scheduled(
        turn.connection, core_id=state.core_id, now=now, at_most=tuning.sweep_tasks_max
    )
    if claimed.task_ids:  # what was released may wait for a retry
        upcoming = store.next_retry(turn.connection, core_id=state.core_id)
        turn.changes.then(partial(state.set_next_retry, upcoming))
    again_at = now  # there are more
    if len(claimed.task_ids) < tuning.sweep_tasks_max:
        again_at = now + timedelta(seconds=tuning.sweep_seconds)
        again_at = min(again_at, store.next_scheduled(turn.connection, now=now) or again_at)
    turn.changes.then(partial(look_at, state, again_at))
    return advance.entries(turn, claimed.ready)


def look_at(state: CoreState, at: datetime) -> None:
    """Look for tasks whose time has come at this moment."""
    state.scheduled_at = at


def look_no_later(state: CoreState, at: datetime) -> None:
    """A task was made that is due then."""
    if state.scheduled_at is not None:
        state.scheduled_at = min(state.scheduled_at, at)
