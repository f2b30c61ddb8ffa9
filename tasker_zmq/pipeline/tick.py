"""The tick: what came in, one transaction, what goes out. It reads no clock and sends nothing."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from tasker_zmq.domain.ids import BatchId, SessionId, StepId, TaskId
from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.states import StepState
from tasker_zmq.pipeline import (
    accounts,
    administration,
    advance,
    afterwards,
    breaking,
    delivery,
    discover,
    neighbours,
    pings,
    reaching,
    reconcile,
    recover,
    reporting,
    resting,
    scheduled,
)
from tasker_zmq.pipeline.afterwards import DISABLED, FELL_SILENT, SAID_GOODBYE
from tasker_zmq.pipeline.apply import Applying
from tasker_zmq.pipeline.contents import ContentsOfTurn
from tasker_zmq.pipeline.dispatch import Dispatching, oversized_moves
from tasker_zmq.pipeline.findings import Findings
from tasker_zmq.pipeline.inbox import (
    Letter,
    Outbox,
    Received,
    ReceivedCommand,
    ReceivedResult,
    SubscriptionSeen,
)
from tasker_zmq.pipeline.requests import Loaded
from tasker_zmq.pipeline.state import Changes, CoreState
from tasker_zmq.pipeline.tuning import Chance, Tuning, UuidMaker
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.upkeep import keep_up, make_partitions, see_subscription
from tasker_zmq.protocol import codec
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import control as control_store
from tasker_zmq.store import ledger as ledger_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.control import Closing
from tasker_zmq.store.ledger import Recording
from tasker_zmq.store.steps import Move, Moved, ReadyStep
from tasker_zmq.store.tables import DeadLetterStatus
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

CONSISTENT = ReconciliationStatus.CONSISTENT.value
RAN_AFTER_ALL = Closing(
    status=DeadLetterStatus.RESOLVED, by="its worker", why="the step's success came late"
)


@dataclass(frozen=True, kw_only=True)
class Left:
    """A session that is over; what is `kept` goes on elsewhere, None: none of its steps began."""

    session_id: SessionId
    never_started: frozenset[StepId] | None = frozenset()
    kept: frozenset[BatchId] = frozenset()


@dataclass
class Answers:
    """What commands of a tick lead to."""

    letters: list[Letter] = field(default_factory=list)
    ready: list[ReadyStep] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


Answer = Callable[[Turn, Sequence[ReceivedCommand]], Answers]


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
        sweep_due = resting.sweep_due(self._state, self._tuning, inbox, now=now)
        turn = Turn(
            connection=connection,
            state=self._state,
            tuning=self._tuning,
            now=now,
            chance=self._chance,
            make_uuid=self._make_uuid,
            contents=ContentsOfTurn(self._state.contents),
            submissions_due=sweep_due or resting.submissions_due(self._state, inbox, now=now),
            sweep_due=sweep_due,
        )
        turn.changes.then(turn.contents.keep)
        turn.changes.then(self._state.calm_down)
        return _Pass(turn).run(inbox, self._answer)


class _Pass:
    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._outbox = Outbox()
        self._moved: list[Moved] = []
        self._to_reconcile: list[BatchId] = []

    def run(self, inbox: Sequence[Received], answer: Answer) -> Ticked:
        turn = self._turn
        make_partitions(turn)
        for event in inbox:
            if isinstance(event, SubscriptionSeen):
                self._outbox.letters += see_subscription(turn, event)
        page = discover.page_beforehand(turn)
        commands = [each for each in inbox if isinstance(each, ReceivedCommand)]
        answers = Answers()
        if commands or turn.submissions_due:
            answers = answer(turn, commands)
        self._outbox.letters += answers.letters
        self._apply([each for each in inbox if isinstance(each, ReceivedResult)])
        self._outbox.letters += pings.settle(turn)
        ended = [(each, SAID_GOODBYE) for each in answers.left]
        ended += [(Left(session_id=id_), DISABLED) for id_ in administration.obey(turn, inbox)]
        self._outbox.extend(delivery.send_again(turn))
        self._recover(ended)
        self._reconcile()
        fresh = [*answers.ready, *(step for moved in self._moved for step in moved.ready)]
        fresh += neighbours.ready(turn, inbox)
        neighbours.tell(turn, self._moved)
        entries = [
            *advance.entries(turn, fresh),
            *discover.sweep(turn, page),
            *scheduled.start_due(turn),
        ]
        dispatched = Dispatching(turn, breaking.settle(turn, inbox)).run(entries)
        self._outbox.extend(dispatched.outbox)
        self._refuse(dispatched.oversized)
        for moved in self._moved:
            advance.end_blocked_tasks(turn, moved)
        keep_up(turn)
        return Ticked(self._outbox, turn.changes)

    def _apply(self, received: Sequence[ReceivedResult]) -> None:
        if not received:
            return
        limits = self._turn.tuning.limits
        decoded = [each.decoded or codec.decode_result(each.frames, limits) for each in received]
        applying = Applying(self._turn)
        findings = applying.run(decoded)
        self._hear(findings)
        for view in findings.views.batches.values():
            reconcile.compare_at_once(view)
        self._write(findings)
        self._outbox.letters += delivery.acknowledge(self._turn, findings.recorded)
        self._outbox.letters += reporting.letters(self._turn, received, findings.ledger_rows)
        for session_id, batch_id in findings.completed_batches:
            self._turn.changes.then(
                partial(afterwards.release_batch, self._turn.state, session_id, batch_id)
            )

    def _hear(self, findings: Findings) -> None:
        """A result is a sign of life as good as a heartbeat."""
        heard = {view.session_id for view in findings.views.batches.values() if view.messages}
        self._turn.heard.update(heard)
        sessions = [each for id_ in heard if (each := self._turn.state.sessions.get(id_))]
        self._turn.changes.then(partial(afterwards.note_heard, sessions, self._turn.now))

    def _write(self, findings: Findings) -> None:
        """Write what was found, then read what follows from it."""
        views = findings.views.batches.values()
        rows, arrows = accounts.rows(views)
        recording = Recording(
            entries=findings.ledger_rows,
            accounts=rows,
            arrows=arrows,
            core_id=self._turn.state.core_id,
        )
        if findings.foreseen is None or findings.dead_letters:
            moved = step_store.apply(
                self._turn.connection, findings.moves, recording, now=self._turn.now
            )
            self._turn.contents.drop(moved.finished)
            self._outbox.ended += [*moved.finished, *moved.blocked]
        else:
            moved = self._send_moves(findings.moves, recording, findings.foreseen)
        self._moved.append(moved)
        self._turn.changes.then(partial(afterwards.note_retries, self._turn.state, findings.moves))
        ledger_store.write_dead_letters(
            self._turn.connection, findings.dead_letters, now=self._turn.now
        )
        _end_doubts(self._turn, findings.moves)
        breaking.note(self._turn, findings)
        self._turn.changes.then(
            partial(afterwards.end_steps, self._turn.state, findings.released, self._turn.now)
        )
        self._turn.changes.then(partial(self._turn.state.in_flight.keep, findings.views))
        for view in views:
            self._watch(view)

    def _send_moves(
        self, moves: Sequence[Move], recording: Recording, foreseen: Sequence[ReadyStep]
    ) -> Moved:
        """As it is known what will follow: nobody waits while PostgreSQL writes it."""
        ready = sorted(foreseen, key=lambda step: step.step_id)
        finished = step_store.send_moves(
            self._turn.connection, moves, recording, ready=len(ready), now=self._turn.now
        )
        self._turn.changes.then(lambda: self._note_finished(finished()))
        return Moved(ready=tuple(ready))

    def _note_finished(self, task_ids: Sequence[TaskId]) -> None:
        self._turn.state.contents.drop(task_ids)
        self._outbox.ended += task_ids

    def _watch(self, batch: accounts.BatchView) -> None:
        """Compare a batch's accounts once both are whole; else after a while."""
        unreconciled = self._turn.state.unreconciled
        whole = batch.completion and batch.ended >= batch.batch_size
        if whole and not batch.heard_before and batch.reconciliation_status == CONSISTENT:
            if batch.told is not None:
                self._turn.changes.then(partial(unreconciled.drop, batch.batch_id))
            self._forget(batch)
            return
        settled = batch.reconciliation_status != ReconciliationStatus.PENDING
        if batch.messages if settled else whole:
            self._to_reconcile.append(batch.batch_id)
        elif batch.touched and not settled and (batch.completion or not batch.open):
            due = self._turn.now + timedelta(seconds=self._turn.tuning.completion_grace_seconds)
            self._turn.changes.then(partial(unreconciled.put, batch.batch_id, due))
        if not batch.open:
            self._forget(batch)

    def _forget(self, batch: accounts.BatchView) -> None:
        state = self._turn.state
        self._turn.changes.then(partial(state.deadlines.drop, batch.batch_id))
        self._turn.changes.then(partial(state.published.pop, batch.batch_id, None))

    def _recover(self, ended: Iterable[tuple[Left, str]]) -> None:
        state, now = self._turn.state, self._turn.now
        if state.next_retry_at is not None and state.next_retry_at <= now:
            moves = recover.due_retries(self._turn)
            self._moved.append(step_store.apply(self._turn.connection, moves, now=now))
            upcoming = step_store.next_retry(self._turn.connection, core_id=state.core_id)
            self._turn.changes.then(partial(state.set_next_retry, upcoming))
        recovering = recover.Recovering(self._turn)
        if state.unsure:
            unsent = discover.look_up(self._turn)
            reason = "the daemon does not remember that it was sent"
            if unsent:
                self._write(recovering.lose(unsent, reason=reason, never_started=None))
        expired = state.deadlines.due(now, self._turn.tuning.recover_max)
        if expired:
            self._write(recovering.time_out(expired))
        for each, why in ended:
            self._lose(recovering, each, why=why)
        for session_id in recover.silent_sessions(self._turn):
            self._lose(recovering, Left(session_id=session_id), why=FELL_SILENT)
        self._give_up_deaf(recovering)
        if self._turn.dropped:
            reason = "its worker had it, and has nothing more of it"
            self._write(recovering.lose(self._turn.dropped, reason=reason))
        self._turn.suspect.update(recover.suspect_sessions(self._turn))

    def _give_up_deaf(self, recovering: recover.Recovering) -> None:
        """What deaf sessions never got goes elsewhere; they are told to register again."""
        for session_id, batch_ids in self._turn.deaf.items():
            session = self._turn.state.sessions.get(session_id)
            if session is None or session_id in self._turn.gone:
                continue
            reason = f"session {session_id} of worker {session.worker_name} is deaf"
            self._write(recovering.lose(batch_ids, reason=reason, never_started=None))
            reaching.note_deaf(self._turn, session)
            log(logger, logging.WARNING, Event.SESSION_DEAF, worker=session.worker_name)

    def _lose(self, recovering: recover.Recovering, left: Left, *, why: str) -> None:
        session_id = left.session_id
        session = self._turn.state.sessions.get(session_id)
        if session is None or session_id in self._turn.gone:
            return
        self._turn.gone.add(session_id)  # what it held must not be sent to it again
        batch_ids = sorted(set(session.holding.values()) - left.kept)
        # What is not in hand never arrived: but not of batches that the worker has named before.
        begun = [each for each in batch_ids if left.never_started is None and session.has_had(each)]
        reason = f"session {session_id} of worker {session.worker_name} is gone"
        moves: list[Move] = []
        for ids, never_started in (
            (begun, frozenset[StepId]()),
            ([each for each in batch_ids if each not in begun], left.never_started),
        ):
            if ids:
                findings = recovering.lose(
                    ids, reason=reason, never_started=never_started, session_id=session_id
                )
                moves += findings.moves
                self._write(findings)
        worker_store.close_sessions(self._turn.connection, [session_id], now=self._turn.now)
        self._turn.changes.then(lambda: self._turn.state.sessions.pop(session_id, None))
        reaching.note_gone(self._turn, session, silent=why == FELL_SILENT)
        self._turn.changes.then(partial(afterwards.tell_gone, session, moves, why=why))

    def _reconcile(self) -> None:
        waited = self._turn.state.unreconciled.due(self._turn.now, self._turn.tuning.recover_max)
        batch_ids = sorted({*self._to_reconcile, *waited})
        if not batch_ids:
            return
        found = reconcile.load(self._turn.connection, batch_ids)
        words = {
            batch_id: each.unreported
            for batch_id, each in found.items()
            if batch_id not in self._to_reconcile and each.unreported
        }
        if words:
            applying = Applying(self._turn)
            findings = applying.take_words(words)
            self._write(findings)
            self._await_more(findings.awaited)
            batch_ids = [each for each in batch_ids if each not in findings.awaited]
            found = {each: found[each] for each in batch_ids if each in found}
        batch_store.forget_differences(self._turn.connection, batch_ids)
        reconcile.store(self._turn.connection, found, now=self._turn.now)
        for batch_id in batch_ids:
            self._turn.changes.then(partial(self._turn.state.unreconciled.drop, batch_id))
        self._turn.changes.then(partial(self._turn.state.in_flight.drop, batch_ids))

    def _await_more(self, batch_ids: Iterable[BatchId]) -> None:
        """Their workers may still have results that only a completion told of: ask later."""
        due = self._turn.now + timedelta(seconds=self._turn.tuning.completion_grace_seconds)
        for batch_id in batch_ids:
            self._turn.changes.then(partial(self._turn.state.unreconciled.put, batch_id, due))

    def _refuse(self, oversized: Sequence[Loaded]) -> None:
        if not oversized:
            return
        task_ids = sorted({each.row.task_id for each in oversized})
        step_store.start_tasks(self._turn.connection, task_ids, now=self._turn.now)
        moves, letters = oversized_moves(oversized, self._turn.tuning.limits.steps_bytes_max)
        self._write(Findings(moves=moves, dead_letters=letters))


def _end_doubts(turn: Turn, moves: Iterable[Move]) -> None:
    """A late success answers what a person was asked: whether the step ran."""
    step_ids = [move.step_id for move in moves if move.from_state is StepState.IN_DOUBT]
    if step_ids:
        control_store.close_letters(turn.connection, RAN_AFTER_ALL, step_ids=step_ids, now=turn.now)
