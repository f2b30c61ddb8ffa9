"""Received results to moves of steps: loads what they name, rules on each, says what to write."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from tasker_zmq.domain import results as rules
from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.domain.results import Outcome, ResultStatus, StepDecision, StepFacts, Verdict
from tasker_zmq.domain.states import STEP, BatchEvent, BatchState, StepEvent
from tasker_zmq.pipeline import ledger
from tasker_zmq.pipeline.accounts import BatchView, StepView, Views
from tasker_zmq.pipeline.ledger import Ruling
from tasker_zmq.pipeline.state import LEGACY_SESSION, CoreState
from tasker_zmq.pipeline.tuning import Chance, Tuning
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    PartialResult,
    ResultMessage,
    StepError,
)
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.ledger import DeadLetterRow, LedgerRow
from tasker_zmq.store.steps import Move

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+")


@dataclass
class Findings:
    """What the results of a tick come to."""

    views: Views = field(default_factory=Views)
    moves: list[Move] = field(default_factory=list)
    ledger_rows: list[LedgerRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    recorded: list[tuple[SessionId, Recorded]] = field(default_factory=list)
    released: list[tuple[SessionId, StepId, BatchId]] = field(default_factory=list)
    completed_batches: list[tuple[SessionId, BatchId]] = field(default_factory=list)


class Applying:
    """One tick's ruling over its results."""

    def __init__(self, state: CoreState, tuning: Tuning, *, now: datetime, chance: Chance) -> None:
        self._state = state
        self._tuning = tuning
        self._now = now
        self._chance = chance
        self.findings = Findings()

    def run(self, connection: Connection, received: Sequence[Decoded | Undecodable]) -> Findings:
        """Rule on each message in the order in which it came."""
        self._connection = connection
        messages = [each.message for each in received if isinstance(each, Decoded)]
        self._load(messages)
        for each in received:
            if isinstance(each, Undecodable):
                self.findings.ledger_rows.append(ledger.undecodable_row(each))
            else:
                self._take(each)
        for batch in self.findings.views.batches.values():
            self._close(batch)
        return self.findings

    def take_words(
        self, connection: Connection, words: Mapping[BatchId, Sequence[tuple[StepId, ResultStatus]]]
    ) -> Findings:
        """Outcomes that only a completion tells: better known without their output than never."""
        self._connection = connection
        views = self.findings.views
        views.load(batch_store.expired(connection, sorted(words)))
        for batch in views.batches.values():
            for step_id, status in words[batch.batch_id]:
                self._rule_step(
                    batch,
                    step_id,
                    status=status,
                    output=b"null",
                    error=StepError(
                        message="the completion says it failed; no partial result came"
                    ),
                    retryable=None,
                    worker_name=None,
                    partial=False,
                )
            self._close(batch)
        return self.findings

    def _load(self, messages: Sequence[ResultMessage]) -> None:
        pairs: set[tuple[str, int | None]] = set()
        whole: set[str] = set()
        for message in messages:
            if not _UUID.fullmatch(message.batch_id):
                continue
            uuid = message.batch_id.lower()
            if isinstance(message, PartialResult):
                pairs.add((uuid, message.step_id))
            elif isinstance(message, OldResponse):
                pairs.update((uuid, result.step_id) for result in message.results)
            else:
                pairs.add((uuid, None))
                if isinstance(message, BatchError):
                    whole.add(uuid)
        if not pairs:
            return
        views = self.findings.views
        ordered = sorted(pairs, key=lambda pair: (pair[0], pair[1] or 0))
        uuids, step_ids = [pair[0] for pair in ordered], [pair[1] for pair in ordered]
        views.load(step_store.load_named(self._connection, batch_uuids=uuids, step_ids=step_ids))
        if whole:
            ids = [view.batch_id for uuid, view in views.batches.items() if uuid in whole]
            views.load(batch_store.expired(self._connection, ids))

    def _take(self, decoded: Decoded) -> None:
        message = decoded.message
        batch = self.findings.views.batches.get(message.batch_id.lower())
        if batch is None:
            ruling = Ruling(verdict=Verdict.UNKNOWN_BATCH, reason="no batch has this id")
        elif not self._may_speak(message.session_id, batch):
            reason = f"the batch was sent to session {batch.session_id}"
            ruling = Ruling(verdict=Verdict.REJECTED, reason=reason, batch_id=batch.batch_id)
        else:
            ruling = self._rule(message, batch)
        self.findings.ledger_rows.append(ledger.row(decoded, ruling))
        if message.session_id is not None:
            self.findings.recorded.append((message.session_id, _recorded(message, ruling.verdict)))

    def _may_speak(self, session_id: SessionId | None, batch: BatchView) -> bool:
        return (session_id or LEGACY_SESSION) == batch.session_id

    def _rule(self, message: ResultMessage, batch: BatchView) -> Ruling:
        if isinstance(message, PartialResult):
            return self._rule_partial(message, batch)
        if isinstance(message, BatchCompletion):
            return self._rule_completion(batch)
        if isinstance(message, BatchError):
            return self._rule_batch_error(message, batch)
        return self._rule_old_response(message, batch)

    def _rule_partial(self, message: PartialResult, batch: BatchView) -> Ruling:
        retryable = message.retryable
        if message.error is not None and message.error.retryable is not None:
            retryable = message.error.retryable
        decision = self._rule_step(
            batch,
            message.step_id,
            status=message.status,
            output=bytes(message.output),
            error=message.error,
            retryable=retryable,
            worker_name=message.worker_id,
            partial=True,
        )
        return Ruling(
            verdict=decision.verdict,
            reason=decision.reason if decision.verdict is not Verdict.APPLIED else "",
            batch_id=batch.batch_id,
            batch_step_id=batch.batch_step_ids.get(message.step_id),
        )

    def _rule_completion(self, batch: BatchView) -> Ruling:
        self.findings.completed_batches.append((batch.session_id, batch.batch_id))
        if batch.completion:
            reason = "the batch's completion was received before"
            return Ruling(verdict=Verdict.DUPLICATE, reason=reason, batch_id=batch.batch_id)
        batch.completion = batch.completion_heard = batch.touched = True
        return Ruling(verdict=Verdict.APPLIED, batch_id=batch.batch_id)

    def _rule_batch_error(self, message: BatchError, batch: BatchView) -> Ruling:
        verdicts = [
            self._rule_step(
                batch,
                step_id,
                status=ResultStatus.FAILED,
                output=b"null",
                error=message.error,
                retryable=message.error.retryable,
                worker_name=message.worker_id,
                partial=False,
            ).verdict
            for step_id in list(batch.batch_step_ids)
        ]
        return _ruling_of_several(verdicts, batch)

    def _rule_old_response(self, message: OldResponse, batch: BatchView) -> Ruling:
        verdicts = []
        for result in message.results:
            metadata = result.metadata
            retryable = metadata.retryable if metadata is not None else None
            verdicts.append(
                self._rule_step(
                    batch,
                    result.step_id,
                    status=result.status,
                    output=bytes(result.output),
                    error=result.error,
                    retryable=retryable,
                    worker_name=message.worker_id,
                    partial=True,
                ).verdict
            )
        if not batch.completion:
            batch.completion = batch.completion_heard = batch.touched = True
        self.findings.completed_batches.append((batch.session_id, batch.batch_id))
        return _ruling_of_several(verdicts, batch)

    def _rule_step(
        self,
        batch: BatchView,
        step_id: StepId,
        *,
        status: str,
        output: bytes,
        error: StepError | None,
        retryable: bool | None,
        worker_name: str | None,
        partial: bool,
    ) -> StepDecision:
        step = self.findings.views.step(batch, step_id)
        if step is None:
            return StepDecision(verdict=Verdict.REJECTED, reason="the batch carries no such step")
        word = rules.result_status(status)
        if word is None:
            reason = f"'{status}' is no result status; known: completed, failed, in_progress"
            return StepDecision(verdict=Verdict.REJECTED, reason=reason)
        after = error.retry_after_seconds if error is not None else None
        outcome = Outcome(status=word, retryable=retryable, retry_after_seconds=after)
        decision = self._decide(outcome, step, batch)
        if word is not ResultStatus.IN_PROGRESS:
            self.findings.released.append((batch.session_id, step_id, batch.batch_id))
        if decision.event is not None:
            self.move(step, decision, output=output, error=error, worker_name=worker_name)
            batch.count(completed=decision.event is StepEvent.COMPLETE, partial=partial)
        elif decision.verdict is Verdict.NOTED and batch.state is not BatchState.IN_PROGRESS:
            self._start(batch)
        return decision

    def _decide(self, outcome: Outcome, step: StepView, batch: BatchView) -> StepDecision:
        definition = self._state.step_definition(
            self._connection, step.named_task_id, step.named_step_id
        )
        facts = StepFacts(
            state=step.state,
            in_current_batch=step.current_batch_id == batch.batch_id,
            attempts=step.attempts,
            retry_limit=step.retry_limit,
            retryable=step.retryable,
            backoff=definition.backoff,
        )
        return rules.decide(
            outcome, facts, now=self._now, chance=self._chance(), jitter=self._tuning.jitter
        )

    def move(
        self,
        step: StepView,
        decision: StepDecision,
        *,
        output: bytes,
        error: StepError | None,
        worker_name: str | None,
    ) -> None:
        """Write down one decided move, and a dead letter where it is the end."""
        if decision.event is None:
            return
        target = STEP.after(step.state, decision.event)
        completed = decision.event is StepEvent.COMPLETE
        kept = error or StepError(message="the worker gave no error")
        self.findings.moves.append(
            Move(
                step_id=step.step_id,
                from_state=step.state,
                to_state=target,
                event=decision.event,
                results=output.decode() if completed else None,
                error=None if completed else codec.encode(kept).decode(),
                next_attempt_at=decision.next_attempt_at,
                worker_name=worker_name,
            )
        )
        step.state = target
        if decision.dead_letter_reason is not None:
            self.findings.dead_letters.append(
                DeadLetterRow(
                    step_id=step.step_id,
                    reason=decision.dead_letter_reason,
                    fingerprint=fingerprint(kept),
                )
            )

    def _start(self, batch: BatchView) -> None:
        self._mark_published(batch)
        if batch.open and batch.state is not BatchState.IN_PROGRESS:
            batch.move(BatchEvent.START)

    def _mark_published(self, batch: BatchView) -> None:
        sent_at = self._state.published.get(batch.batch_id)
        if sent_at is not None and batch.state is BatchState.CREATED:
            batch.published_at = sent_at
            batch.move(BatchEvent.PUBLISH)

    def _close(self, batch: BatchView) -> None:
        """End a touched batch whose steps have all ended; a part of them means in progress."""
        if not batch.touched or not batch.open:
            return
        self._mark_published(batch)
        if batch.ended >= batch.batch_size:
            batch.close(completed=batch.completed, failed=batch.failed)
        else:
            self._start(batch)


def fingerprint(error: StepError) -> str:
    """Equal for errors that look alike: their type and their first line without its numbers."""
    line = error.message.partition("\n")[0][:200]
    likeness = f"{error.error_type or ''}:{_NUMBER.sub('#', line)}"
    return hashlib.sha256(likeness.encode("utf-8", "replace")).hexdigest()[:16]


def _ruling_of_several(verdicts: Sequence[Verdict], batch: BatchView) -> Ruling:
    """One verdict for a message about several steps: applied if any part of it was."""
    if not verdicts or Verdict.APPLIED in verdicts:
        verdict = Verdict.APPLIED
    else:
        verdict = verdicts[0]
    mixed = len(set(verdicts)) > 1
    reason = "by step: " + ", ".join(verdicts) if mixed else ""
    return Ruling(verdict=verdict, reason=reason, batch_id=batch.batch_id)


def _recorded(message: ResultMessage, verdict: Verdict) -> Recorded:
    partial = message if isinstance(message, PartialResult) else None
    return Recorded(
        batch_id=message.batch_id,
        step_id=partial.step_id if partial else None,
        sequence=partial.sequence if partial else None,
        message_type=str(message.__struct_config__.tag),
        verdict=verdict,
    )
