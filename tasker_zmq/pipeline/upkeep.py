"""Small duties of each tick: heartbeats in groups, published marks, the lease, subscriptions."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tasker_zmq.domain.breaker import Pair
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.errors import TaskerError
from tasker_zmq.pipeline import reaching
from tasker_zmq.pipeline.delivery import ping
from tasker_zmq.pipeline.inbox import Letter, SubscriptionSeen
from tasker_zmq.pipeline.recover import next_silence
from tasker_zmq.pipeline.resting import horizon, lease_due, next_lease
from tasker_zmq.pipeline.roster import Able
from tasker_zmq.pipeline.state import LEGACY_SESSION, CoreState, Session
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import topics
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import locks, schema
from tasker_zmq.store import workers as worker_store

PUBLISHED_AFTER = timedelta(milliseconds=250)  # most batches are over sooner: one write less
PARTITIONS_EVERY = timedelta(days=1)
PARTITIONS_LOCK, PARTITIONS_LOCK_SECONDS = "partitions", 3_600.0
LEGACY_CONCURRENCY = 10
LEGACY_CREDIT = 100


class CoreLostError(TaskerError):
    """Another process runs under this core's name, or another core has taken its work over."""


def make_partitions(turn: Turn) -> None:
    """Keep a place in the ledger for every message of the coming weeks; looked after once a day.

    One of several cores does it: who finds the lock taken has it done by its owner.
    """
    state = turn.state
    made_at = state.partitions_made_at
    if made_at is not None and abs(turn.now - made_at) < PARTITIONS_EVERY:
        return
    owner = locks.Owner(state.core_id, state.epoch)
    lasts = PARTITIONS_LOCK_SECONDS
    if locks.acquire(turn.connection, PARTITIONS_LOCK, owner, seconds=lasts, now=turn.now):
        schema.ensure_partitions(turn.connection, turn.now)
    turn.changes.then(lambda: _partitions_made(state, turn.now))


def _partitions_made(state: CoreState, now: datetime) -> None:
    state.partitions_made_at = now


def see_subscription(turn: Turn, seen: SubscriptionSeen) -> list[Letter]:
    """Note that a session's subscriber is there, so that work may be sent to it.

    That one left is only a hint: its worker is asked for a sign of life.
    """
    if seen.topic == topics.LEGACY_STEPS_TOPIC:
        turn.changes.then(lambda: _see_legacy(turn.state, turn.now, subscribed=seen.subscribed))
        return []
    prefix = f"{topics.STEPS}.".encode()
    session_id = SessionId(seen.topic.removeprefix(prefix).strip().decode("ascii", "replace"))
    turn.changes.then(
        lambda: _subscribe(turn.state, session_id, turn.now, subscribed=seen.subscribed)
    )
    session = turn.state.sessions.get(session_id)
    return [ping(session)] if session and session.route and not seen.subscribed else []


def _subscribe(state: CoreState, session_id: SessionId, now: datetime, *, subscribed: bool) -> None:
    """Without a subscriber nothing is sent, for nobody would get it; the lease goes on."""
    session = state.sessions.get(session_id)
    if session is not None:
        session.subscribed = subscribed
        session.doubted_at = None if subscribed else now
        state.quiet_until = None
        state.reached.note(session.worker_name, now)


def _see_legacy(state: CoreState, now: datetime, *, subscribed: bool) -> None:
    """A seed worker is one nameless session that runs whatever nobody else can."""
    former = state.sessions.get(LEGACY_SESSION)
    state.sessions[LEGACY_SESSION] = Session(
        session_id=LEGACY_SESSION,
        registration_id=None,
        worker_name=LEGACY_SESSION,
        route=(),
        handlers=None,
        concurrency=LEGACY_CONCURRENCY,
        credit=LEGACY_CREDIT,
        last_heard_at=now,
        subscribed=subscribed,
        holding=former.holding if former else {},
        sent=former.sent if former else {},
    )


def forgive_absence(state: CoreState, absence: timedelta, now: datetime) -> None:
    """This daemon was stopped, or without its database: nobody's silence meanwhile counts."""
    for session in state.sessions.values():
        session.last_heard_at = max(session.last_heard_at, now)
        if session.doubted_at is not None:
            session.doubted_at = now
    state.back_at = now
    state.deadlines.postpone(absence)
    state.unreconciled.postpone(absence)


def keep_up(turn: Turn) -> None:
    """Write what was put off to be written together, when it is time."""
    _mark_published(turn)
    _write_beats(turn)
    _write_suspects(turn)  # behind the beats, of which one of theirs may still have been waiting
    reaching.write(turn)
    _renew_lease(turn)


def _mark_published(turn: Turn) -> None:
    published = turn.state.published
    old = [(batch, at) for batch, at in published.items() if turn.now - at >= PUBLISHED_AFTER]
    if not old:
        return
    batch_store.mark_published(turn.connection, old, now=turn.now)
    turn.changes.then(lambda: [published.pop(batch, None) for batch, _ in old])
    turn.changes.then(lambda: turn.state.in_flight.publish(old))


def _write_beats(turn: Turn) -> None:
    beats = turn.state.beats
    if beats.due_at is None or beats.due_at > horizon(turn.state, turn.tuning, turn.now):
        return
    chosen = beats.chosen(turn.now)
    worker_store.beat(turn.connection, chosen)
    interval = turn.tuning.heartbeat_interval_seconds
    turn.changes.then(lambda: beats.keep(chosen, turn.now, interval_seconds=interval))


def _write_suspects(turn: Turn) -> None:
    """Show once who has begun to be silent; the next heartbeat that is written takes it back."""
    if not turn.suspect:
        return
    worker_store.mark_unhealthy(turn.connection, sorted(turn.suspect))
    suspects = [turn.state.sessions[session_id] for session_id in turn.suspect]
    turn.changes.then(lambda: _suspected(suspects))


def _suspected(sessions: Iterable[Session]) -> None:
    for session in sessions:
        session.suspect, session.beat = True, None  # what it says next is new


def _renew_lease(turn: Turn) -> None:
    state, lease_seconds = turn.state, turn.tuning.core_lease_seconds
    if not lease_due(state, turn.tuning, turn.now):
        return
    kept = worker_store.renew_core(
        turn.connection, state.core_id, state.epoch, now=turn.now, lease_seconds=lease_seconds
    )
    if not kept:
        raise CoreLostError(
            f"core '{state.core_id}' (epoch {state.epoch}) was taken over by another process, "
            "or by another core when its lease was over; start it again, and give each daemon its "
            "own --core-id"
        )
    turn.changes.then(lambda: _renewed(state, turn.now))


def _renewed(state: CoreState, now: datetime) -> None:
    state.lease_renewed_at = now


def next_due(state: CoreState, tuning: Tuning, now: datetime) -> datetime:
    """When the next tick is wanted even if nothing arrives."""
    moments = [
        state.next_retry_at,
        state.deadlines.earliest(),
        state.unreconciled.earliest(),
        _next_page(state, now),
        now if _may_send(state, now) else None,
        state.breakers.next_try(now) if state.viable else None,
        state.next_sweep_at,
        min(state.neighbours.values(), default=None),
        None if state.draining else state.submissions_at,
        None if state.draining else state.scheduled_at,
        next_lease(state, tuning),
        state.quiet_until or next_silence(state, tuning),
        state.reached.due_at,
        state.beats.due_at,
    ]
    moments += [each.due_at for each in state.pings]
    if state.published:
        moments.append(min(state.published.values()) + PUBLISHED_AFTER)
    return min(moment for moment in moments if moment is not None)


def _next_page(state: CoreState, now: datetime) -> datetime | None:
    if state.sweep_cursor is None:
        return None
    return (state.next_page_at or now) if state.viable.full else now


def _may_send(state: CoreState, now: datetime) -> bool:
    """Whether steps wait for which there is room: what the last tick made room for, or left."""
    if state.draining or not state.viable:
        return False
    waiting = (state.sessions.able(*each) for each in state.viable.kinds().items())
    together = {id(able): able for able in waiting}  # many kinds are run by the same sessions
    return any(
        session.room(now) > 0 and not (state.breakers and _is_barred(state, able, session, now=now))
        for able in together.values()
        for session in able.sessions
    )


def _is_barred(state: CoreState, able: Able, session: Session, *, now: datetime) -> bool:
    pair = Pair(session.worker_name, able.handler_class)
    return state.breakers.bars(pair, now, under_way=state.deadlines)
