"""Received results to moves of steps: loads what they name, rules on each, says what to write."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from tasker_zmq.domain import results as rules
from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.domain.results import Outcome, ResultStatus, StepDecision, StepFacts, Verdict
from tasker_zmq.domain.states import STEP, BatchEvent, BatchState, StepEvent, StepState
from tasker_zmq.pipeline import ledger
from tasker_zmq.pipeline.accounts import BatchView, StepView
from tasker_zmq.pipeline.delivery import may_still_report
from tasker_zmq.pipeline.findings import Findings, Said
from tasker_zmq.pipeline.ledger import Ruling
from tasker_zmq.pipeline.state import LEGACY_SESSION
from tasker_zmq.pipeline.turn import Turn
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
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.ledger import DeadLetterRow
from tasker_zmq.store.steps import Move

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+")


class Applying:
    """One tick's ruling over its results."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.findings = Findings()
        self._related = set[tuple[SessionId, SessionId]]()  # of one process: both may speak

    def run(self, received: Sequence[Decoded | Undecodable]) -> Findings:
        """Rule on each message in the order in which it came."""
        messages = [each.message for each in received if isinstance(each, Decoded)]
        self._load(messages)
        self.findings.foreseen = []
        for each in received:
            if isinstance(each, Undecodable):
                self.findings.ledger_rows.append(ledger.undecodable_row(each))
            else:
                self._take(each)
        for batch in self.findings.views.batches.values():
            self._close(batch)
        return self.findings

    def take_words(
        self, words: Mapping[BatchId, Sequence[tuple[StepId, ResultStatus]]]
    ) -> Findings:
        """Outcomes that only a completion tells: better known without their output than never."""
        only_word = StepError(message="the completion says it failed; no partial result came")
        views = self.findings.views
        views.load(batch_store.expired(self._turn.connection, sorted(words)))
        for batch in views.batches.values():
            if may_still_report(self._turn, batch.session_id, batch.batch_uuid):
                self.findings.awaited.add(batch.batch_id)
                continue
            for step_id, status in words[batch.batch_id]:
                self._rule_step(batch, step_id, Said(status=status, error=only_word))
            self._close(batch)
        return self.findings

    def _load(self, messages: Sequence[ResultMessage]) -> None:
        pairs: dict[tuple[str, int | None], None] = {}
        whole: set[str] = set()
        for message in messages:
            if self._recall(message) or not _UUID.fullmatch(message.batch_id):
                continue
            uuid = message.batch_id.lower()
            if isinstance(message, PartialResult):
                pairs[uuid, message.step_id] = None
            elif isinstance(message, OldResponse):
                pairs.update(((uuid, result.step_id), None) for result in message.results)
                pairs[uuid, None] = None  # it may hold no results
            else:
                pairs[uuid, None] = None
                if isinstance(message, BatchError):
                    whole.add(uuid)
        views = self.findings.views
        if pairs:
            uuids, step_ids = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            views.load(
                step_store.load_named(self._turn.connection, batch_uuids=uuids, step_ids=step_ids)
            )
        if whole:
            ids = [view.batch_id for uuid, view in views.batches.items() if uuid in whole]
            views.load(batch_store.expired(self._turn.connection, ids))
        self._meet_strangers(messages)

    def _recall(self, message: ResultMessage) -> bool:
        """Whether memory knows the row that it is about; of failures only the row knows enough."""
        if isinstance(message, PartialResult):
            if rules.result_status(message.status) is not ResultStatus.COMPLETED:
                return False
            step_id = message.step_id
        elif isinstance(message, BatchCompletion):
            step_id = None
        else:
            return False
        return self._turn.state.in_flight.recall(message.batch_id, step_id, self.findings.views)

    def _meet_strangers(self, messages: Sequence[ResultMessage]) -> None:
        """Sessions that memory does not connect may be of one process, at several cores."""
        pairs = {
            (message.session_id or LEGACY_SESSION, batch.session_id)
            for message in messages
            if (batch := self.findings.views.batches.get(message.batch_id.lower())) is not None
            and not self._may_speak(message.session_id, batch)
        }
        if pairs:
            ids = sorted({each for pair in pairs for each in pair})
            processes = worker_store.processes_of(self._turn.connection, ids)
            self._related = {
                pair
                for pair in pairs
                if processes.get(pair[0], pair[0]) == processes.get(pair[1], pair[1])
            }

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
            if ruling.verdict is not Verdict.REJECTED:
                batch.messages.append(message)
        self.findings.ledger_rows.append(ledger.row(decoded, ruling))
        if message.session_id is not None:
            self.findings.recorded.append((message.session_id, _recorded(message, ruling.verdict)))

    def _may_speak(self, session_id: SessionId | None, batch: BatchView) -> bool:
        speaking = session_id or LEGACY_SESSION
        if speaking == batch.session_id:
            return True
        if (speaking, batch.session_id) in self._related:
            return True
        return batch.session_id in self._succeeded(speaking) or speaking in self._succeeded(
            batch.session_id
        )

    def _succeeded(self, session_id: SessionId) -> tuple[SessionId, ...]:
        """Earlier sessions of the same process; it may have begun in this very tick."""
        sessions = self._turn.state.sessions
        session = self._turn.begun.get(session_id) or sessions.get(session_id)
        return session.succeeded if session else ()

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
        said = Said(
            status=message.status,
            output=bytes(message.output),
            error=message.error,
            retryable=retryable,
            worker_name=message.worker_id,
            partial=True,
        )
        decision = self._rule_step(batch, message.step_id, said)
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
        said = Said(
            status=ResultStatus.FAILED,
            error=message.error,
            retryable=message.error.retryable,
            worker_name=message.worker_id,
        )
        verdicts = [
            self._rule_step(batch, step_id, said).verdict for step_id in list(batch.batch_step_ids)
        ]
        return self._rule_both_accounts(verdicts, batch)

    def _rule_old_response(self, message: OldResponse, batch: BatchView) -> Ruling:
        verdicts = []
        for result in message.results:
            metadata = result.metadata
            retryable = metadata.retryable if metadata is not None else None
            said = Said(
                status=result.status,
                output=bytes(result.output),
                error=result.error,
                retryable=retryable,
                worker_name=message.worker_id,
                partial=True,
            )
            verdicts.append(self._rule_step(batch, result.step_id, said).verdict)
        return self._rule_both_accounts(verdicts, batch)

    def _rule_both_accounts(self, verdicts: Sequence[Verdict], batch: BatchView) -> Ruling:
        """A message that says everything of its batch is its completion too, unless refused."""
        ruling = _ruling_of_several(verdicts, batch)
        if ruling.verdict is not Verdict.REJECTED and not batch.completion:
            batch.completion = batch.completion_heard = batch.touched = True
        self.findings.completed_batches.append((batch.session_id, batch.batch_id))
        return ruling

    def _rule_step(self, batch: BatchView, step_id: StepId, said: Said) -> StepDecision:
        step = self.findings.views.step(batch, step_id)
        if step is None:
            return StepDecision(verdict=Verdict.REJECTED, reason="the batch carries no such step")
        word = rules.result_status(said.status)
        if word is None:
            reason = f"'{said.status}' is no result status; known: completed, failed, in_progress"
            return StepDecision(verdict=Verdict.REJECTED, reason=reason)
        after = said.error.retry_after_seconds if said.error is not None else None
        outcome = Outcome(status=word, retryable=said.retryable, retry_after_seconds=after)
        decision = self._decide(outcome, step, batch)
        if word is not ResultStatus.IN_PROGRESS:
            self.findings.released.append((batch.session_id, step_id, batch.batch_id))
            self._turn.end_step(batch.session_id, step_id, batch.batch_id)
        if decision.event is not None:
            if step.state is not StepState.IN_PROGRESS:
                self._take_late(batch, step_id)
            self.move(step, decision, said)
            batch.count(completed=decision.event is StepEvent.COMPLETE, partial=said.partial)
        elif decision.verdict is Verdict.NOTED and batch.state is not BatchState.IN_PROGRESS:
            self._start(batch)
        return decision

    def _take_late(self, batch: BatchView, step_id: StepId) -> None:
        """A late success: the step waits to be sent again, which must not happen any more."""
        if batch.state is BatchState.TIMED_OUT:
            batch.take_back_failure()
        self._turn.settled.add(step_id)
        viable = self._turn.state.viable
        self._turn.changes.then(lambda: viable.discard([step_id]))

    def _decide(self, outcome: Outcome, step: StepView, batch: BatchView) -> StepDecision:
        definition = self.definition(step)
        facts = StepFacts(
            state=step.state,
            in_current_batch=step.current_batch_id == batch.batch_id,
            attempts=step.attempts,
            retry_limit=step.retry_limit,
            retryable=step.retryable,
            backoff=definition.backoff,
            losses=step.losses,
            unheard=step.unheard,
            task_cancelled=step.task_cancelled,
        )
        return rules.decide(
            outcome,
            facts,
            now=self._turn.now,
            chance=self._turn.chance(),
            jitter=self._turn.tuning.jitter,
        )

    def definition(self, step: StepView) -> StepDefinition:
        return self._turn.state.step_definition(
            self._turn.connection, step.named_task_id, step.named_step_id
        )

    def move(
        self, step: StepView, decision: StepDecision, said: Said, *, unheard: bool = False
    ) -> None:
        """Write down one decided move, and a dead letter where it is the end."""
        if decision.event is None:
            return
        target = STEP.after(step.state, decision.event)
        completed = decision.event is StepEvent.COMPLETE
        kept = said.error or StepError(message="the worker gave no error")
        results = said.output.decode() if completed else None
        if results is not None:
            self._turn.contents.add(step.task_id, self.definition(step).name, results)
        self._foresee(step, completed=completed)
        self.findings.moves.append(
            Move(
                step_id=step.step_id,
                from_state=step.state,
                to_state=target,
                event=decision.event,
                results=results,
                error=None if completed else codec.encode(kept).decode(),
                next_attempt_at=decision.next_attempt_at,
                worker_name=said.worker_name,
                unheard=unheard,
                carried_in=step.current_batch_id if completed else None,
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

    def _foresee(self, step: StepView, *, completed: bool) -> None:
        """What follows from a move, as far as memory knows the task."""
        ready = None
        if completed:
            ready = self._turn.contents.finish(step.task_id, step.named_step_id)
        if ready is None or step.state is not StepState.IN_PROGRESS:
            self.findings.foreseen = None
        elif self.findings.foreseen is not None:
            self.findings.foreseen += ready

    def _start(self, batch: BatchView) -> None:
        self._mark_published(batch)
        if batch.open and batch.state is not BatchState.IN_PROGRESS:
            batch.move(BatchEvent.START)

    def _mark_published(self, batch: BatchView) -> None:
        sent_at = self._turn.state.published.get(batch.batch_id)
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
    applied = not verdicts or Verdict.APPLIED in verdicts
    verdict = Verdict.APPLIED if applied else verdicts[0]
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
