"""Finding work by oneself: what a starting core takes up again, and the slow sweep ever after."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from tasker_zmq.domain.ids import BatchId, CoreId, SessionId, TaskId
from tasker_zmq.domain.states import OPEN_BATCH_STATES
from tasker_zmq.pipeline import advance, resting
from tasker_zmq.pipeline.state import CoreState, Sent, Session
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import reachability as reach_store
from tasker_zmq.store import schema
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import sweeping as sweep_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.statements import Row
from tasker_zmq.store.workers import KnownCore
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

PAGE = 1_000
FULL_SWEEP_EVERY = timedelta(seconds=20)
# A sweep that finds memory full looks on for steps of handlers with few, in small bites: what it
# takes is time in which no result is recorded.
FULL_PAGE_EVERY = timedelta(milliseconds=50)
FULL_PAGE_TASKS = 10
FULL_PAGE_STEPS = 100


def wake(connection: Connection, state: CoreState, tuning: Tuning, *, now: datetime) -> None:
    """Fill a new core's memory from the rows; run once, before its first tick."""
    schema.ensure_partitions(connection, now)
    state.partitions_made_at = now
    worker_store.close_sessions_of(connection, state.core_id, now=now)
    reach_store.forget(connection, state.core_id)
    state.next_retry_at = step_store.next_retry(connection, core_id=state.core_id)
    state.cores = _addresses(_living(worker_store.known(connection), now))
    state.sweep_cursor = sweep_store.SWEEP_START
    state.next_sweep_at = now
    after = BatchId(0)
    while True:
        page = batch_store.unsettled(connection, core_id=state.core_id, after=after, at_most=PAGE)
        _watch(state, tuning, _Unsettled(page, _in_flight(connection, page)), now=now)
        if len(page) < PAGE:
            return
        after = BatchId(page[-1].batch_id)


def look_up(turn: Turn) -> list[BatchId]:
    """After a commit of unknown outcome: open batches that nobody here remembers sending.

    What such a commit wrote beside them is found by the sweep, and by the time for the next retry.
    Batches of sessions that nobody here knows were not sent from here: it took them over, and with
    their worker they may well be.
    """
    state, after, unsent, strange = turn.state, BatchId(0), list[BatchId](), list[Row]()
    due = turn.now + timedelta(seconds=turn.tuning.completion_grace_seconds)
    while True:
        page = batch_store.unsettled(
            turn.connection, core_id=state.core_id, after=after, at_most=PAGE
        )
        for row in page:
            if row.state in OPEN_BATCH_STATES:
                if row.batch_id not in state.deadlines:
                    known = row.session_id in state.sessions
                    unsent.append(row.batch_id) if known else strange.append(row)
            elif row.batch_id not in state.unreconciled:
                turn.changes.then(partial(state.unreconciled.put, row.batch_id, due))
        if len(page) < PAGE:
            break
        after = BatchId(page[-1].batch_id)
    if strange:
        held = _in_flight(turn.connection, strange)
        found = _Unsettled(strange, held)
        turn.changes.then(lambda: _watch(state, turn.tuning, found, now=turn.now))
    upcoming = step_store.next_retry(turn.connection, core_id=state.core_id)
    turn.changes.then(lambda: _looked_up(state, upcoming))
    return unsent


def _looked_up(state: CoreState, upcoming: datetime | None) -> None:
    state.unsure = False
    state.set_next_retry(upcoming)
    _restart(state)


def _in_flight(connection: Connection, batches: Sequence[Row]) -> Sequence[Row]:
    ids = [row.batch_id for row in batches if row.state in OPEN_BATCH_STATES]
    return batch_store.steps_in_flight(connection, ids) if ids else []


@dataclass(frozen=True)
class _Unsettled:
    """Batches, and those steps of theirs that are in progress."""

    batches: Sequence[Row]
    held: Sequence[Row]


def _watch(state: CoreState, tuning: Tuning, found: _Unsettled, *, now: datetime) -> None:
    """Answer for batches that an earlier process, or a core that died, has sent.

    The daemon's absence counts against nobody: workers have time to come back, and to say what
    they have. Whose process is here already has said it: what it did not bring goes elsewhere.
    """
    soonest = now + timedelta(seconds=tuning.session_dead_seconds + tuning.timeout_grace_seconds)
    silent_since = now - timedelta(seconds=tuning.session_dead_seconds, milliseconds=1)
    left = {each for session in state.sessions.values() for each in session.succeeded}
    for row in found.batches:
        if row.state in OPEN_BATCH_STATES:
            state.deadlines.put(row.batch_id, max(_deadline(row), soonest))
            session_id = SessionId(row.session_id)
            _former_session(state, session_id, silent_since if session_id in left else now)
        else:
            due = now + timedelta(seconds=tuning.completion_grace_seconds)
            state.unreconciled.put(row.batch_id, due)
    for row in found.held:
        sent = Sent(batch_id=row.batch_id, batch_uuid=row.batch_uuid)
        state.sessions[row.session_id].take(sent, [row.workflow_step_id])


def watch_adopted(
    state: CoreState, tuning: Tuning, adopted: Sequence[Row], *, now: datetime
) -> None:
    """Answer for batches that a worker brought along, those of another core among them."""
    grace = timedelta(seconds=tuning.completion_grace_seconds)
    for row in adopted:
        known = row.batch_id in state.deadlines or row.batch_id in state.unreconciled
        if not known and row.state in OPEN_BATCH_STATES:
            state.deadlines.put(row.batch_id, max(_deadline(row), now + grace))
        elif not known and row.unsettled:
            state.unreconciled.put(row.batch_id, now + grace)


def _deadline(batch: Row) -> datetime:
    moment: datetime = batch.created_at + timedelta(seconds=batch.timeout_seconds)
    return moment


def _former_session(state: CoreState, session_id: SessionId, heard_at: datetime) -> None:
    """A session from before: its worker may come back and take its batches over."""
    state.quiet_until = None
    state.sessions.setdefault(
        session_id,
        Session(
            session_id=session_id,
            registration_id=None,
            worker_name="",
            route=(),
            handlers=frozenset(),
            concurrency=0,
            credit=0,
            last_heard_at=heard_at,
        ),
    )


def claim(turn: Turn, *, at_most: int, some_died: bool = True) -> list[TaskId]:
    """Claim tasks that nobody living owns; their viable steps are for the caller to find.

    `some_died`: there are rows of cores whose lease is over.
    """
    state = turn.state
    if some_died and worker_store.fence(turn.connection, core_id=state.core_id, now=turn.now):
        reach_store.forget_dead(turn.connection, now=turn.now)
    claimed = step_store.claim(
        turn.connection, core_id=state.core_id, now=turn.now, at_most=at_most
    )
    if claimed:
        upcoming = step_store.next_retry(turn.connection, core_id=state.core_id)
        turn.changes.then(lambda: state.set_next_retry(upcoming))
    return claimed


def look_soon(state: CoreState, now: datetime) -> None:
    """Sweep in the next tick, through all tasks of this core."""
    state.next_sweep_at = now
    _restart(state)


def _succeed_the_dead(turn: Turn, *, some_died: bool) -> bool:
    """Claim tasks and batches that nobody living owns; whether there are more of them."""
    state, tuning = turn.state, turn.tuning
    claimed = claim(turn, at_most=tuning.sweep_tasks_max, some_died=some_died)
    taken: Sequence[Row] = ()
    if some_died:
        taken = batch_store.take_over(
            turn.connection, core_id=state.core_id, now=turn.now, at_most=PAGE
        )
    if taken:
        held = _in_flight(turn.connection, taken)
        turn.changes.then(lambda: _watch(state, tuning, _Unsettled(taken, held), now=turn.now))
        log(logger, logging.WARNING, Event.BATCHES_TAKEN_OVER, batches=len(taken), steps=len(held))
    if claimed or state.viable.overflowed:
        # A sweep that is under way may be past what was claimed: then there is more for the next.
        again = _restart if state.sweep_cursor is None else _note_more
        turn.changes.then(lambda: again(state))
    return len(claimed) == tuning.sweep_tasks_max or len(taken) == PAGE


def sweep(turn: Turn, page: Sequence[Entry] | None) -> Sequence[Entry]:
    """Look for what nobody told of, when it is time; one page of viable steps, if wanted.

    `page` is that page, if it was read already.
    """
    resting.end_rest(turn)
    _look_around(turn)
    return _page(turn) if page is None else page


def page_beforehand(turn: Turn) -> Sequence[Entry] | None:
    """A page that a sweep with full memory reads: now it need not wait for what the tick writes."""
    return _page(turn) if turn.state.viable.full and not turn.sweep_due else None


def _page(turn: Turn) -> Sequence[Entry]:
    state, tuning = turn.state, turn.tuning
    cursor = state.sweep_cursor
    if cursor is None or (state.viable.full and _too_early(state, turn.now)):
        return []
    full = state.viable.full
    page = sweep_store.sweep(
        turn.connection,
        core_id=state.core_id,
        after=cursor,
        tasks_max=min(tuning.sweep_tasks_max, FULL_PAGE_TASKS) if full else tuning.sweep_tasks_max,
        steps_max=min(tuning.sweep_steps_max, FULL_PAGE_STEPS) if full else tuning.sweep_steps_max,
        crowd=state.viable.crowd() if full else None,
    )
    if page.cut:
        turn.changes.then(lambda: _note_more(state))
    next_page_at = turn.now + FULL_PAGE_EVERY if full else None
    turn.changes.then(lambda: _turn_page(state, page.cursor, next_page_at))
    return advance.entries(turn, page.ready)


def _look_around(turn: Turn) -> None:
    """When it is time, or a lease is over that was not seen renewed: who lives, and who died."""
    state, now = turn.state, turn.now
    if not (turn.sweep_due or _leases_end(turn)):
        return
    known = worker_store.known(turn.connection)
    living = _living(known, now)
    others = {each.core_id: each.lease_expires_at for each in living}
    others.pop(state.core_id, None)
    turn.changes.then(lambda: _note_cores(state, _addresses(living), others))
    if turn.sweep_due or state.neighbours.keys() - others.keys():
        some_died = len(living) < len(known)
        again_at = _look_for_work(turn, beside_others=bool(others), some_died=some_died)
        turn.changes.then(lambda: _swept(state, again_at))


def _leases_end(turn: Turn) -> bool:
    """Whether another core's lease, as it was last seen, is over or soon will be."""
    if not turn.state.neighbours:
        return False
    until = resting.horizon(turn.state, turn.tuning, turn.now)
    return any(lease <= until for lease in turn.state.neighbours.values())


def _look_for_work(turn: Turn, *, beside_others: bool, some_died: bool) -> datetime:
    """Claim what nobody living owns; when to look again."""
    away = _was_away_lately(turn)
    if not away and _succeed_the_dead(turn, some_died=some_died):
        return turn.now
    if beside_others:
        _sweep_beside_others(turn)
    if away:
        return turn.now + timedelta(seconds=turn.tuning.sweep_seconds)
    return resting.rest(turn, FULL_SWEEP_EVERY if beside_others else None)


def _living(cores: Iterable[KnownCore], now: datetime) -> list[KnownCore]:
    return [each for each in cores if each.lease_expires_at > now]


def _note_cores(
    state: CoreState, cores: tuple[CoreAddress, ...], others: dict[CoreId, datetime]
) -> None:
    state.cores, state.neighbours = cores, others


def _addresses(cores: Iterable[KnownCore]) -> tuple[CoreAddress, ...]:
    """Of those that said where they are."""
    return tuple(
        CoreAddress(core_id=each.core_id, commands=each.commands)
        for each in cores
        if each.commands is not None
    )


def _was_away_lately(turn: Turn) -> bool:
    """Whether others may have been away just as long, and have not come back yet.

    After an outage of the database all leases are over: everyone has the time of one to renew his.
    """
    back_at, lease_seconds = turn.state.back_at, turn.tuning.core_lease_seconds
    return back_at is not None and turn.now - back_at < timedelta(seconds=lease_seconds)


def _sweep_beside_others(turn: Turn) -> None:
    """Steps of ours that another core made ready or postponed, and whose word was not heard."""
    state, now = turn.state, turn.now
    if state.full_sweep_at is None or now >= state.full_sweep_at:
        again_at = now + FULL_SWEEP_EVERY
        upcoming = step_store.next_retry(turn.connection, core_id=state.core_id)
        turn.changes.then(lambda: state.set_next_retry(upcoming))
        turn.changes.then(lambda: _swept_fully(state, again_at))
        if state.sweep_cursor is None:
            turn.changes.then(lambda: _restart(state))


def _swept_fully(state: CoreState, again_at: datetime) -> None:
    state.full_sweep_at = again_at


def _swept(state: CoreState, again_at: datetime) -> None:
    state.next_sweep_at = again_at


def _restart(state: CoreState) -> None:
    state.viable.overflowed = False
    state.sweep_cursor = sweep_store.SWEEP_START


def _note_more(state: CoreState) -> None:
    state.viable.overflowed = True


def _turn_page(
    state: CoreState, cursor: tuple[int, int] | None, next_page_at: datetime | None
) -> None:
    state.sweep_cursor = cursor
    state.next_page_at = next_page_at


def _too_early(state: CoreState, now: datetime) -> bool:
    """With memory full, a sweep goes on slowly: there may be steps of a handler with few."""
    return state.next_page_at is not None and now < state.next_page_at
