"""The tick: what came in, one transaction, what goes out. It reads no clock and sends nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.pipeline import accounts, advance, discover, reconcile, recover
from tasker_zmq.pipeline.apply import Applying, Findings
from tasker_zmq.pipeline.dispatch import Dispatching, Loaded, oversized_moves
from tasker_zmq.pipeline.inbox import (
    Letter,
    Outbox,
    Received,
    ReceivedCommand,
    ReceivedResult,
    SubscriptionSeen,
)
from tasker_zmq.pipeline.state import Changes, CoreState, release
from tasker_zmq.pipeline.tuning import Chance, Tuning, UuidMaker
from tasker_zmq.pipeline.upkeep import keep_up, see_subscription
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, Payload, Recorded, ResultsRecorded
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import ledger as ledger_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.steps import Move, Moved, ReadyStep


@dataclass
class Answers:
    """What commands of a tick lead to."""

    letters: list[Letter] = field(default_factory=list)
    ready: list[ReadyStep] = field(default_factory=list)
    left: list[tuple[SessionId, frozenset[StepId]]] = field(default_factory=list)


Answer = Callable[[Connection, Sequence[ReceivedCommand], Changes, datetime], Answers]


@dataclass(frozen=True)
class Ticked:
    """Send `outbox` and carry out `changes`, both only after the commit."""

    outbox: Outbox
    changes: Changes


class Tick:
    """One pass along the road."""

    def __init__(
        self,
        state: CoreState,
        tuning: Tuning,
        *,
        answer: Answer,
        make_uuid: UuidMaker,
        chance: Chance,
    ) -> None:
        self._state = state
        self._tuning = tuning
        self._answer = answer
        self._make_uuid = make_uuid
        self._chance = chance

    def run(self, connection: Connection, inbox: Sequence[Received], now: datetime) -> Ticked:
        """Deal with `inbox` and with whatever is due at `now`, inside the caller's transaction."""
        return _Pass(self._state, self._tuning, connection, now, self._make_uuid, self._chance).run(
            inbox, self._answer
        )


class _Pass:
    def __init__(
        self,
        state: CoreState,
        tuning: Tuning,
        connection: Connection,
        now: datetime,
        make_uuid: UuidMaker,
        chance: Chance,
    ) -> None:
        self._state = state
        self._tuning = tuning
        self._connection = connection
        self._now = now
        self._make_uuid = make_uuid
        self._chance = chance
        self._changes = Changes()
        self._outbox = Outbox()
        self._moved: list[Moved] = []
        self._to_reconcile: list[BatchId] = []

    def run(self, inbox: Sequence[Received], answer: Answer) -> Ticked:
        for event in inbox:
            if isinstance(event, SubscriptionSeen):
                see_subscription(self._state, event, self._now, self._changes)
        commands = [each for each in inbox if isinstance(each, ReceivedCommand)]
        answers = Answers()
        if commands:
            answers = answer(self._connection, commands, self._changes, self._now)
        self._outbox.letters += answers.letters
        self._apply([each for each in inbox if isinstance(each, ReceivedResult)])
        self._recover(answers.left)
        self._reconcile()
        fresh = [*answers.ready, *(step for moved in self._moved for step in moved.ready)]
        entries = advance.entries(self._connection, self._state, fresh)
        entries += discover.sweep(
            self._connection, self._state, self._tuning, now=self._now, changes=self._changes
        )
        dispatched = Dispatching(
            self._state,
            self._tuning,
            now=self._now,
            make_uuid=self._make_uuid,
            changes=self._changes,
        ).run(self._connection, entries)
        self._outbox.extend(dispatched.outbox)
        self._refuse(dispatched.oversized)
        for moved in self._moved:
            advance.end_blocked_tasks(self._connection, moved, now=self._now)
        keep_up(self._connection, self._state, self._tuning, now=self._now, changes=self._changes)
        return Ticked(self._outbox, self._changes)

    def _apply(self, received: Sequence[ReceivedResult]) -> None:
        if not received:
            return
        decoded = [codec.decode_result(each.frames, self._tuning.limits) for each in received]
        applying = Applying(self._state, self._tuning, now=self._now, chance=self._chance)
        findings = applying.run(self._connection, decoded)
        self._write(findings)
        self._outbox.letters += _acknowledge(self._state, findings.recorded, self._now)
        for session_id, batch_id in findings.completed_batches:
            self._changes.then(lambda s=session_id, b=batch_id: _release_batch(self._state, s, b))

    def _write(self, findings: Findings) -> None:
        """Write what was found, then read what follows from it."""
        if findings.moves:
            self._moved.append(step_store.apply(self._connection, findings.moves, now=self._now))
            self._changes.then(lambda: _note_retries(self._state, findings.moves))
        views = findings.views.batches.values()
        rows, arrows = accounts.rows(views)
        batch_store.account(self._connection, rows, arrows, now=self._now)
        ledger_store.record(
            self._connection, findings.ledger_rows, core_id=self._state.core_id, now=self._now
        )
        ledger_store.write_dead_letters(self._connection, findings.dead_letters, now=self._now)
        for session_id, step_id, batch_id in findings.released:
            self._changes.then(
                lambda s=session_id, i=step_id, b=batch_id: release(
                    self._state.sessions.get(s), [i], b
                )
            )
        for view in views:
            self._watch(view)

    def _watch(self, batch: accounts.BatchView) -> None:
        """Compare a batch's accounts once both are whole; else after a while."""
        whole = batch.completion and batch.ended >= batch.batch_size
        settled = batch.reconciliation_status != ReconciliationStatus.PENDING
        if whole and (not settled or batch.completion_heard):
            self._to_reconcile.append(batch.batch_id)
        elif batch.touched and not settled and (batch.completion or not batch.open):
            due = self._now + timedelta(seconds=self._tuning.completion_grace_seconds)
            self._changes.then(lambda: self._state.unreconciled.put(batch.batch_id, due))
        if not batch.open:
            self._changes.then(lambda: self._state.deadlines.drop(batch.batch_id))
            self._changes.then(lambda: self._state.published.pop(batch.batch_id, None))

    def _recover(self, left: Sequence[tuple[SessionId, frozenset[StepId]]]) -> None:
        state, now = self._state, self._now
        if state.next_retry_at is not None and state.next_retry_at <= now:
            moves = recover.due_retries(self._connection, state, self._tuning, now=now)
            self._moved.append(step_store.apply(self._connection, moves, now=now))
            upcoming = step_store.next_retry(self._connection)
            self._changes.then(lambda: _set_next_retry(state, upcoming))
        recovering = recover.Recovering(
            state, self._tuning, now=now, chance=self._chance, changes=self._changes
        )
        expired = state.deadlines.due(now, self._tuning.recover_max)
        if expired:
            self._write(recovering.time_out(self._connection, expired))
        gone = [
            (each, frozenset[StepId]())
            for each in recover.silent_sessions(state, self._tuning, now)
        ]
        for session_id, never_started in [*left, *gone]:
            self._lose(recovering, session_id, never_started)

    def _lose(
        self,
        recovering: recover.Recovering,
        session_id: SessionId,
        never_started: frozenset[StepId],
    ) -> None:
        session = self._state.sessions.get(session_id)
        if session is None:
            return
        batch_ids = sorted(set(session.holding.values()))
        if batch_ids:
            reason = f"session {session_id} of worker {session.worker_name} is gone"
            findings = recovering.lose(
                self._connection, batch_ids, reason=reason, never_started=never_started
            )
            self._write(findings)
        worker_store.close_sessions(self._connection, [session_id], now=self._now)
        self._changes.then(lambda: self._state.sessions.pop(session_id, None))

    def _reconcile(self) -> None:
        waited = self._state.unreconciled.due(self._now, self._tuning.recover_max)
        batch_ids = sorted({*self._to_reconcile, *waited})
        if not batch_ids:
            return
        found = reconcile.load(self._connection, batch_ids)
        words = {
            batch_id: each.unreported
            for batch_id, each in found.items()
            if batch_id not in self._to_reconcile and each.unreported
        }
        if words:
            applying = Applying(self._state, self._tuning, now=self._now, chance=self._chance)
            findings = applying.take_words(self._connection, words)
            self._write(findings)
        reconcile.store(self._connection, found, now=self._now)
        for batch_id in batch_ids:
            self._changes.then(lambda b=batch_id: self._state.unreconciled.drop(b))

    def _refuse(self, oversized: Sequence[Loaded]) -> None:
        if not oversized:
            return
        task_ids = sorted({each.row.task_id for each in oversized})
        step_store.start_tasks(self._connection, task_ids, now=self._now)
        moves, letters = oversized_moves(oversized, self._tuning.limits.steps_bytes_max)
        self._write(Findings(moves=moves, dead_letters=letters))


def _acknowledge(
    state: CoreState, recorded: Iterable[tuple[SessionId, Recorded]], now: datetime
) -> list[Letter]:
    """One ResultsRecorded per session that can be reached."""
    by_session: dict[SessionId, list[Recorded]] = {}
    for session_id, entry in recorded:
        by_session.setdefault(session_id, []).append(entry)
    letters = []
    for session_id, entries in by_session.items():
        session = state.sessions.get(session_id)
        if session is None or not session.route:
            continue
        told = ResultsRecorded(session_id=session_id, recorded=tuple(entries))
        command = Command(
            command_type="ResultsRecorded",
            command_id=f"{session_id}-{now.timestamp():.6f}",
            payload=Payload(type="ResultsRecorded", data=codec.raw(told)),
        )
        letters.append(Letter(session.route, codec.encode(command)))
    return letters


def _note_retries(state: CoreState, moves: Iterable[Move]) -> None:
    due = [move.next_attempt_at for move in moves if move.next_attempt_at is not None]
    if due:
        _set_next_retry(state, min(due + ([state.next_retry_at] if state.next_retry_at else [])))


def _set_next_retry(state: CoreState, at: datetime | None) -> None:
    state.next_retry_at = at


def _release_batch(state: CoreState, session_id: SessionId, batch_id: BatchId) -> None:
    session = state.sessions.get(session_id)
    if session is not None:
        release(session, [s for s, b in session.holding.items() if b == batch_id], batch_id)
