"""Work that came to nothing by itself: retries that are due, batches out of time, lost sessions."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial

from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.domain.losses import Start, decide_loss
from tasker_zmq.domain.results import Outcome, ResultStatus, StepFacts, decide_failure
from tasker_zmq.domain.states import STEP, BatchEvent, StepEvent, StepState
from tasker_zmq.pipeline import afterwards
from tasker_zmq.pipeline.accounts import BatchView, StepView
from tasker_zmq.pipeline.apply import Applying, fingerprint
from tasker_zmq.pipeline.findings import Findings, Said
from tasker_zmq.pipeline.state import LEGACY_SESSION, CoreState, Session
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.ledger import DeadLetterRow
from tasker_zmq.store.statements import Row
from tasker_zmq.store.steps import Move


def due_retries(turn: Turn) -> list[Move]:
    """Moves of waiting steps whose time has come."""
    due = step_store.due_retries(
        turn.connection,
        core_id=turn.state.core_id,
        now=turn.now,
        at_most=turn.tuning.recover_max,
    )
    return [
        Move(
            step_id=step_id,
            from_state=StepState.WAITING_FOR_RETRY,
            to_state=STEP.after(StepState.WAITING_FOR_RETRY, StepEvent.RETRY),
            event=StepEvent.RETRY,
        )
        for step_id in due
    ]


class Recovering:
    """Ends batches that will not end by themselves."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._applying = Applying(turn)

    def time_out(self, batch_ids: Sequence[BatchId]) -> Findings:
        """Batches past their deadline: their unfinished steps failed by timeout.

        Unless a step must not run twice: then nobody knows whether it did.
        """
        self._applying = Applying(self._turn)
        findings = self._applying.findings
        findings.told = False
        findings.views.load(self._ours(batch_ids))
        reason = "no result came before the batch's deadline"
        for batch in findings.views.batches.values():
            for step in _held(findings, batch):
                if self._once(step):
                    self._lose(batch, step, reason=reason, error_type="BatchTimeout")
                else:
                    self._fail(step, StepError(message=reason, error_type="BatchTimeout"))
                batch.count(completed=False, partial=False)
            self._end(batch, BatchEvent.TIME_OUT, findings)
        return findings

    def lose(
        self,
        batch_ids: Sequence[BatchId],
        *,
        reason: str,
        never_started: frozenset[StepId] | None = frozenset(),
        session_id: SessionId | None = None,
    ) -> Findings:
        """Batches whose session is gone: steps `never_started` (None: all) are not charged.

        With `session_id` those are left alone that its worker took along to another session.
        """
        self._applying = Applying(self._turn)
        findings = self._applying.findings
        findings.told = False
        findings.views.load(self._ours(batch_ids))
        for batch in findings.views.batches.values():
            if session_id not in {None, batch.session_id}:
                continue
            for step in _held(findings, batch):
                never = never_started is None or step.step_id in never_started
                self._lose(batch, step, reason=reason, error_type="Lost", never=never)
            self._end(batch, BatchEvent.ORPHAN, findings)
        return findings

    def _ours(self, batch_ids: Sequence[BatchId]) -> list[Row]:
        """Without those that another core took over, or adopted with their worker, meanwhile."""
        state = self._turn.state
        loaded = batch_store.expired(self._turn.connection, sorted(batch_ids))
        ours = [row for row in loaded if row.core_id == state.core_id]
        for batch_id in set(batch_ids) - {row.batch_id for row in ours}:
            self._turn.changes.then(partial(state.deadlines.drop, batch_id))
            self._turn.changes.then(partial(afterwards.let_go, state, batch_id))
        return ours

    def _fail(self, step: StepView, error: StepError) -> None:
        decision = decide_failure(
            Outcome(status=ResultStatus.FAILED),
            self._facts(step),
            now=self._turn.now,
            chance=self._turn.chance(),
            jitter=self._turn.tuning.jitter,
        )
        said = Said(status=ResultStatus.FAILED, error=error)
        unheard = decision.event is StepEvent.POSTPONE
        self._applying.move(step, decision, said, unheard=unheard)

    def _lose(
        self, batch: BatchView, step: StepView, *, reason: str, error_type: str, never: bool = False
    ) -> None:
        start = Start.NEVER if never else self._start(batch, step)
        decision = decide_loss(
            start,
            losses=step.losses,
            losses_max=self._turn.tuning.losses_max,
            task_cancelled=step.task_cancelled,
        )
        why = f"{reason}; {decision.reason}" if decision.reason else reason
        doubted = decision.event is StepEvent.DOUBT
        error = StepError(message=why, error_type="InDoubt" if doubted else error_type)
        state, step.state = step.state, STEP.after(step.state, decision.event)
        self._applying.findings.moves.append(
            Move(
                step_id=step.step_id,
                from_state=state,
                to_state=step.state,
                event=decision.event,
                error=None if start is Start.NEVER else codec.encode(error).decode(),
                uncharged=decision.uncharged,
                lost=decision.lost,
                unheard=decision.event is not StepEvent.FAIL,
            )
        )
        if decision.dead_letter_reason is not None:
            self._applying.findings.dead_letters.append(
                DeadLetterRow(
                    step_id=step.step_id,
                    reason=decision.dead_letter_reason,
                    fingerprint=fingerprint(error),
                )
            )

    def _start(self, batch: BatchView, step: StepView) -> Start:
        if not self._once(step):
            return Start.POSSIBLE
        return Start.CONFIRMED if step.step_id in batch.confirmed else Start.NEVER

    def _once(self, step: StepView) -> bool:
        return not step.retryable or self._applying.definition(step).confirm_start

    def _facts(self, step: StepView) -> StepFacts:
        definition = self._applying.definition(step)
        return StepFacts(
            state=step.state,
            in_current_batch=True,
            attempts=step.attempts,
            retry_limit=step.retry_limit,
            retryable=step.retryable,
            backoff=definition.backoff,
            losses=step.losses,
            task_cancelled=step.task_cancelled,
        )

    def _end(self, batch: BatchView, event: BatchEvent, findings: Findings) -> None:
        if batch.open:
            batch.move(event)
        findings.released += [
            (batch.session_id, step_id, batch.batch_id) for step_id in batch.batch_step_ids
        ]
        batch_id, due = (
            batch.batch_id,
            self._turn.now + timedelta(seconds=self._turn.tuning.completion_grace_seconds),
        )
        self._turn.changes.then(lambda: self._turn.state.unreconciled.put(batch_id, due))
        self._turn.changes.then(lambda: self._turn.state.deadlines.drop(batch_id))


def _held(findings: Findings, batch: BatchView) -> list[StepView]:
    """Steps that this batch still has in progress."""
    steps: Iterable[StepView | None] = (
        findings.views.step(batch, step_id) for step_id in sorted(batch.batch_step_ids)
    )
    return [
        step
        for step in steps
        if step is not None
        and step.state is StepState.IN_PROGRESS
        and step.current_batch_id == batch.batch_id
    ]


def _all_quiet(turn: Turn) -> bool:
    """Whether it is too early for any session to have fallen silent: none need be looked at."""
    until = turn.state.quiet_until
    return until is not None and turn.now < until


def silent_sessions(turn: Turn) -> list[SessionId]:
    """Sessions of which nothing was heard for too long."""
    if _all_quiet(turn):
        return []
    turn.changes.then(lambda: _look_later(turn.state, turn.tuning))
    limit = timedelta(seconds=turn.tuning.session_dead_seconds)
    silent = [session.session_id for session in _silent(turn, limit)]
    return silent + [each for each in _unanswered(turn) if each not in silent]


def _unanswered(turn: Turn) -> list[SessionId]:
    """Sessions whose subscriber left, and that gave no sign of life when they were asked."""
    limit = timedelta(seconds=turn.tuning.session_ping_seconds)
    return [
        session.session_id
        for session in turn.state.sessions.values()
        if session.doubted_at is not None
        and session.session_id not in turn.heard
        and session.session_id != LEGACY_SESSION
        and turn.now - session.doubted_at > limit
    ]


def _look_later(state: CoreState, tuning: Tuning) -> None:
    state.quiet_until = next_silence(state, tuning)


def next_silence(state: CoreState, tuning: Tuning) -> datetime | None:
    """When the next session will have been silent for so long that something follows."""
    suspect, dead = tuning.session_suspect_seconds, tuning.session_dead_seconds
    moments = [
        session.last_heard_at + timedelta(seconds=dead if session.suspect else min(suspect, dead))
        for session in state.sessions.values()
        if session.session_id != LEGACY_SESSION
    ]
    moments += [
        session.doubted_at + timedelta(seconds=tuning.session_ping_seconds)
        for session in state.sessions.values()
        if session.doubted_at is not None
    ]
    return min(moments) + timedelta(milliseconds=1) if moments else None


def suspect_sessions(turn: Turn) -> list[SessionId]:
    """Sessions that have begun to be silent: alive, perhaps, but to be sent nothing."""
    if _all_quiet(turn):
        return []
    limit = timedelta(seconds=turn.tuning.session_suspect_seconds)
    return [
        session.session_id
        for session in _silent(turn, limit)
        if not session.suspect and session.session_id not in turn.gone
    ]


def _silent(turn: Turn, limit: timedelta) -> Iterator[Session]:
    for session in turn.state.sessions.values():
        heard = session.session_id == LEGACY_SESSION or session.session_id in turn.heard
        if not heard and turn.now - session.last_heard_at > limit:
            yield session
