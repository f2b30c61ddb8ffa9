"""Workers that somebody asked after: answered with their next sign of life, or when it is late."""

from functools import partial

from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.state import PendingPing
from tasker_zmq.pipeline.turn import Turn


def settle(turn: Turn) -> list[Letter]:
    """Answers to those of which something was heard in this tick, or nothing for too long."""
    over = [each for each in turn.state.pings if _heard(turn, each) or each.due_at <= turn.now]
    if not over:
        return []
    left = [each for each in turn.state.pings if each not in over]
    turn.changes.then(partial(setattr, turn.state, "pings", left))
    return [each.answer(turn.now if _heard(turn, each) else None, turn.now) for each in over]


def _heard(turn: Turn, ping: PendingPing) -> bool:
    return ping.session_id in turn.heard
