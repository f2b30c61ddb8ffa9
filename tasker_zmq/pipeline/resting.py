"""How often a core looks for what nobody told it of: with nothing to do, less and less often.

What is looked for together stays together: tasks and batches that nobody living owns, submissions,
tasks whose time has come, what people decided about workers. Each word that comes ends a rest; so a
rest costs time only where a word was not heard.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tasker_zmq.pipeline.inbox import CoreEnded, CoreStarted, Received, SubmissionsNotified
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.turn import Turn

RESTED: Final = 5  # so many times longer than amid work are the pauses in the end
REST_SECONDS_MAX: Final = 25.0  # what is there is found within half a minute

_DOUBLINGS_MAX: Final = 3  # eight times as long is more than RESTED


def at_work(state: CoreState, now: datetime) -> bool:
    """Whether anything of this core's own is under way, or will be by itself."""
    awake_until = state.awake_until
    return bool(
        state.viable
        or state.deadlines
        or state.unreconciled
        or state.viable.overflowed
        or state.sweep_cursor is not None
        or (awake_until is not None and now <= awake_until)
    )


def stay_awake(state: CoreState, until: datetime) -> None:
    """Do not rest before: something will be there to be found, and nobody will tell of it."""
    state.awake_until = max(until, state.awake_until or until)


def sweep_due(
    state: CoreState, tuning: Tuning, inbox: Iterable[Received], *, now: datetime
) -> bool:
    """Whether to look now: it is time, or another core has begun, or given up its work."""
    at = state.next_sweep_at
    resting = state.quiet_sweeps > 0
    return (
        at is None
        or at <= (horizon(state, tuning, now) if resting else now)
        or any(isinstance(each, CoreEnded | CoreStarted) for each in inbox)
    )


def submissions_due(state: CoreState, inbox: Iterable[Received], *, now: datetime) -> bool:
    """Whether one is due that is known of, or there is a word of others."""
    at = state.submissions_at
    return (at is not None and at <= now) or any(isinstance(e, SubmissionsNotified) for e in inbox)


def rest(turn: Turn, longest: timedelta | None) -> datetime:
    """When to sweep again after one that has left nothing, `longest`: at most so much later."""
    state, tuning = turn.state, turn.tuning
    quiet = 0 if at_work(state, turn.now) else min(state.quiet_sweeps + 1, _DOUBLINGS_MAX)
    turn.changes.then(partial(_note_quiet, state, quiet))
    pause = timedelta(seconds=tuning.sweep_seconds)
    rests = longest_rest(tuning)
    return turn.now + min(pause * (1 << quiet), rests, longest or rests)


def longest_rest(tuning: Tuning) -> timedelta:
    """The pause between two sweeps of a core that has had nothing to do for a while."""
    pause = tuning.sweep_seconds
    return timedelta(seconds=max(pause, min(RESTED * pause, REST_SECONDS_MAX)))


def end_rest(turn: Turn) -> None:
    """There is work again: the next sweep comes as soon as any comes amid work."""
    state = turn.state
    soon = turn.now + timedelta(seconds=turn.tuning.sweep_seconds)
    at = state.next_sweep_at
    if state.quiet_sweeps and at is not None and at > soon and at_work(state, turn.now):
        turn.changes.then(partial(_end_rest, state, soon))


def _end_rest(state: CoreState, soon: datetime) -> None:
    _note_quiet(state, 0)
    if state.next_sweep_at is not None:
        state.next_sweep_at = min(state.next_sweep_at, soon)


def _note_quiet(state: CoreState, sweeps: int) -> None:
    state.quiet_sweeps = sweeps


def next_lease(state: CoreState, tuning: Tuning) -> datetime | None:
    """When to renew the core's lease; None: now."""
    if state.lease_renewed_at is None:
        return None
    return state.lease_renewed_at + timedelta(seconds=tuning.core_lease_seconds / 3)


def lease_due(state: CoreState, tuning: Tuning, now: datetime) -> bool:
    """Whether this tick renews the core's lease, and so writes in any case."""
    at = next_lease(state, tuning)
    return at is None or at <= now


def horizon(state: CoreState, tuning: Tuning, now: datetime) -> datetime:
    """What falls due until then is done now: one transaction for what has no hurry.

    Up to the next renewal of the lease, in a tick that renews it; else it is now.
    """
    if not lease_due(state, tuning, now):
        return now
    return now + timedelta(seconds=tuning.core_lease_seconds / 3)
