"""Work that came to nothing by itself: retries that are due, batches out of time, lost sessions."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.domain.results import Outcome, ResultStatus, StepFacts, decide_failure
from tasker_zmq.domain.states import STEP, BatchEvent, StepEvent, StepState
from tasker_zmq.pipeline.accounts import BatchView, StepView
from tasker_zmq.pipeline.apply import Applying, Findings, Said
from tasker_zmq.pipeline.state import LEGACY_SESSION, Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import steps as step_store
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

    def time_out(self, batch_ids: Sequence[BatchId]) -> Findings:
        """Batches past their deadline: their unfinished steps failed by timeout."""
        applying = Applying(self._turn)
        findings = applying.findings
        findings.views.load(batch_store.expired(self._turn.connection, batch_ids))
        for batch in findings.views.batches.values():
            for step in _held(findings, batch):
                error = StepError(
                    message="no result came before the batch's deadline", error_type="BatchTimeout"
                )
                decision = decide_failure(
                    Outcome(status=ResultStatus.FAILED),
                    self._facts(step),
                    now=self._turn.now,
                    chance=self._turn.chance(),
                    jitter=self._turn.tuning.jitter,
                )
                applying.move(step, decision, Said(status=ResultStatus.FAILED, error=error))
                batch.count(completed=False, partial=False)
            self._end(batch, BatchEvent.TIME_OUT, findings)
        return findings

    def lose(
        self,
        batch_ids: Sequence[BatchId],
        *,
        reason: str,
        never_started: frozenset[StepId] = frozenset(),
    ) -> Findings:
        """Batches whose session is gone: steps that were `never_started` are not charged."""
        findings = Findings()
        findings.views.load(batch_store.expired(self._turn.connection, batch_ids))
        for batch in findings.views.batches.values():
            for step in _held(findings, batch):
                findings.moves.append(
                    _loss(step, reason, started=step.step_id not in never_started)
                )
            self._end(batch, BatchEvent.ORPHAN, findings)
        return findings

    def _facts(self, step: StepView) -> StepFacts:
        definition = self._turn.state.step_definition(
            self._turn.connection, step.named_task_id, step.named_step_id
        )
        return StepFacts(
            state=step.state,
            in_current_batch=True,
            attempts=step.attempts,
            retry_limit=step.retry_limit,
            retryable=step.retryable,
            backoff=definition.backoff,
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


def _loss(step: StepView, reason: str, *, started: bool) -> Move:
    """Back among the viable steps; but a step that must not run twice needs a person."""
    event = StepEvent.DOUBT if started and not step.retryable else StepEvent.LOSE
    state, step.state = step.state, STEP.after(step.state, event)
    return Move(
        step_id=step.step_id,
        from_state=state,
        to_state=step.state,
        event=event,
        error=None if event is StepEvent.LOSE else _in_doubt(reason),
        uncharged=0 if started else 1,
        lost=1 if started else 0,
    )


def _in_doubt(reason: str) -> str:
    message = f"{reason}; the step is not retryable and may have run: decide by hand"
    return codec.encode(StepError(message=message, error_type="InDoubt")).decode()


def silent_sessions(turn: Turn) -> list[SessionId]:
    """Sessions of which nothing was heard for too long."""
    limit = timedelta(seconds=turn.tuning.session_dead_seconds)
    return [session.session_id for session in _silent(turn, limit)]


def suspect_sessions(turn: Turn) -> list[SessionId]:
    """Sessions that have begun to be silent: alive, perhaps, but to be sent nothing."""
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
