"""Publications that got lost: found by what workers say they have in hand, and sent again.

PUB/SUB loses silently. A heartbeat names every batch that its worker has, or has results of; what
was sent and is missing from two heartbeats never arrived, and goes out again to the same session,
which knows its batches by id. A worker that beats but never gets anything is deaf.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

import msgspec

from tasker_zmq.domain.ids import BatchId, SessionId
from tasker_zmq.pipeline.inbox import Letter, Outbox
from tasker_zmq.pipeline.requests import Loaded, Sending, load, publication
from tasker_zmq.pipeline.state import LEGACY_SESSION, Sent, Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, Payload, Ping, Recorded, ResultsRecorded
from tasker_zmq.store import batches as batch_store

MISSED_BEATS = 2
DELIVERIES_MAX = 3


def hear(turn: Turn, session: Session, in_hand: Collection[str]) -> None:
    """Compare what a heartbeat names with what was sent; at most once per beat that was due."""
    known = frozenset(uuid.lower() for uuid in in_hand)
    turn.changes.then(lambda: _note_named(session, known, turn.now))
    pause = timedelta(seconds=turn.tuning.heartbeat_interval_seconds / 2)
    if session.compared_at is not None and turn.now - session.compared_at < pause:
        return  # several beats that waited together are one sign, not several
    arrived = [sent for sent in session.sent.values() if sent.batch_uuid in known]
    missing = [sent for sent in session.sent.values() if sent.batch_uuid not in known]
    for sent in missing:
        if sent.missed + 1 >= MISSED_BEATS:
            _miss(turn, session, sent)

    def note() -> None:
        session.compared_at = turn.now
        for sent in arrived:
            sent.missed, sent.reached = 0, True
        for sent in missing:
            sent.missed += 1

    turn.changes.then(note)


def _miss(turn: Turn, session: Session, sent: Sent) -> None:
    """Its worker does not have this batch: any more, or not yet, or in spite of all tries."""
    if sent.reached:
        turn.dropped.append(sent.batch_id)
    elif sent.delivery >= DELIVERIES_MAX:
        turn.deaf.setdefault(session.session_id, []).append(sent.batch_id)
    else:
        turn.undelivered.append((session.session_id, sent.batch_id))


def _note_named(session: Session, known: frozenset[str], now: datetime) -> None:
    session.named, session.named_at = known, now


def may_still_report(turn: Turn, session_id: SessionId, batch_uuid: str) -> bool:
    """Whether results of a batch may be on their way: its session lives, and does not deny it."""
    session = turn.state.sessions.get(session_id)
    if session is None or session_id == LEGACY_SESSION or session_id in turn.gone:
        return False
    lately = turn.now - timedelta(seconds=2 * turn.tuning.heartbeat_interval_seconds)
    unsure = session.named_at is None or session.named_at < lately
    return unsure or batch_uuid in session.named


def send_again(turn: Turn) -> Outbox:
    """The lost publications once more, with what of them is still in progress."""
    wanted = [
        (session, session.sent[batch_id])
        for session_id, batch_id in turn.undelivered
        if (session := turn.state.sessions.get(session_id)) is not None
        and session_id not in turn.gone
        and batch_id in session.sent
    ]
    if not wanted:
        return Outbox()
    steps = _requests(turn, [sent.batch_id for _, sent in wanted])
    sendings = [
        Sending(
            session=session,
            batch_id=sent.batch_id,
            batch_uuid=sent.batch_uuid,
            publication=turn.next_publication(session.session_id),
            steps=steps[sent.batch_id],
            delivery=sent.delivery + 1,
            confirm_start=sent.confirm_start,
        )
        for session, sent in wanted
        if steps.get(sent.batch_id)
    ]
    batch_store.send_again(
        turn.connection,
        [(each.batch_id, each.delivery, each.publication) for each in sendings],
        now=turn.now,
    )
    turn.changes.then(lambda: _note_sent(sendings))
    return Outbox(publications=[publication(turn, each) for each in sendings])


def _requests(turn: Turn, batch_ids: Sequence[BatchId]) -> dict[BatchId, list[Loaded]]:
    rows = batch_store.load_sent(turn.connection, batch_ids)
    return {
        batch_id: [
            load(
                row,
                turn.state.step_definition(turn.connection, row.named_task_id, row.named_step_id),
            )
            for row in of_batch
        ]
        for batch_id, of_batch in groupby(rows, key=lambda row: row.batch_id)
    }


def _note_sent(sendings: Sequence[Sending]) -> None:
    for each in sendings:
        sent = each.session.sent.get(each.batch_id)
        if sent is not None:
            sent.delivery, sent.publication, sent.missed = each.delivery, each.publication, 0


def ping(session: Session) -> Letter:
    """Ask a session for a sign of life."""
    return tell(session, Ping(session_id=session.session_id), f"ping-{session.session_id}")


def tell(session: Session, what: msgspec.Struct, command_id: str) -> Letter:
    """A command of the daemon's own to one session; its type is that of its payload."""
    kind = type(what).__name__
    command = Command(
        command_type=kind,
        command_id=command_id,
        payload=Payload(type=kind, data=codec.raw(what)),
    )
    return Letter(session.route, codec.encode(command))


def acknowledge(turn: Turn, recorded: Iterable[tuple[SessionId, Recorded]]) -> list[Letter]:
    """One ResultsRecorded per session that can be reached."""
    by_session: dict[SessionId, list[Recorded]] = {}
    for session_id, entry in recorded:
        by_session.setdefault(session_id, []).append(entry)
    letters = []
    for session_id, entries in by_session.items():
        session = turn.state.sessions.get(session_id)
        if session is None or not session.route:
            continue
        told = ResultsRecorded(session_id=session_id, recorded=tuple(entries))
        letters.append(tell(session, told, f"{session_id}-{turn.now.timestamp():.6f}"))
    return letters
