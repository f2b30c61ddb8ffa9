"""Viable steps to batches: picks steps and sessions, writes the batches, makes the frames."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from tasker_zmq.domain.batching import batch_timeout_seconds, pack
from tasker_zmq.domain.breaker import Pair
from tasker_zmq.domain.ids import BatchId, BatchUuid, StepId
from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.states import BatchState, StepEvent, StepState
from tasker_zmq.pipeline.accounts import BatchView, StepView
from tasker_zmq.pipeline.breakers import Breakers
from tasker_zmq.pipeline.directing import NO_BYTES, OVERSIZED, Directing
from tasker_zmq.pipeline.inbox import Letter, Outbox
from tasker_zmq.pipeline.placing import Placing
from tasker_zmq.pipeline.requests import Loaded, Request, Sending, load, publication
from tasker_zmq.pipeline.state import Sent, Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store.batches import NewBatch, NewBatchStep
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.ledger import DeadLetterRow
from tasker_zmq.store.steps import Move, ReadyStep


@dataclass
class Dispatched:
    """What is to be sent, and steps that are too large for any message."""

    outbox: Outbox
    oversized: list[Loaded]


@dataclass(frozen=True)
class _Plan:
    session: Session
    steps: list[Loaded]
    batch: NewBatch
    trying: Pair | None = None  # whom its one step shows whether he can do it again

    @property
    def asks_first(self) -> bool:
        """Whether the worker asks before it begins: then it is known what was begun."""
        return self.session.confirms_start and any(step.once for step in self.steps)


class Dispatching:
    """One tick's dispatch."""

    def __init__(self, turn: Turn, breakers: Breakers) -> None:
        self._turn = turn
        self._placing = Placing(turn, breakers)
        self._directing = Directing(turn, self._placing)

    def run(self, fresh: Sequence[Entry]) -> Dispatched:
        """Send what fits of the waiting steps and of the `fresh` ones; remember the rest."""
        # A sweep finds again what waits already, and what this tick created or moved itself.
        viable = self._turn.state.viable
        fresh = list(
            {
                each[0].step_id: each
                for each in fresh
                if each[0].step_id not in viable and each[0].step_id not in self._turn.settled
            }.values()
        )
        self._turn.changes.then(lambda: viable.add(fresh))
        chosen = self._directing.admit()
        if not self._turn.state.draining:
            chosen += self._placing.choose(fresh)
        if not chosen:
            return Dispatched(Outbox(letters=self._directing.letters([], {})), [])
        ids = [ready.step_id for ready, _ in chosen]
        bytes_max = self._turn.tuning.limits.steps_bytes_max
        loaded = self._load(chosen)
        oversized = [each for each in loaded if each.size > bytes_max]
        plans = self._plan([each for each in loaded if each.size <= bytes_max])
        if plans:
            self._write(plans)
        planned = {step.row.step_id for plan in plans for step in plan.steps}
        kept = (
            {each.row.step_id for each in loaded}
            - planned
            - {each.row.step_id for each in oversized}
        )
        self._turn.changes.then(lambda: viable.discard(each for each in ids if each not in kept))
        outbox = self._outbox(plans)
        outbox.letters += self._answers(plans, oversized, kept=kept)
        return Dispatched(outbox, oversized)

    def _answers(
        self, plans: Sequence[_Plan], oversized: Sequence[Loaded], *, kept: Iterable[StepId]
    ) -> list[Letter]:
        """To those who wanted steps sent to a worker of theirs."""
        if not self._turn.directed:
            return []
        back = dict.fromkeys(kept, NO_BYTES)
        back.update((each.row.step_id, OVERSIZED) for each in oversized)
        sent = [
            (BatchUuid(plan.batch.batch_uuid), [step.row.step_id for step in plan.steps])
            for plan in plans
        ]
        return self._directing.letters(sent, back)

    def _load(self, chosen: Sequence[Entry]) -> list[Loaded]:
        """What the steps' requests are made of: from memory, the rest from their rows."""
        at_hand = {ready.step_id: self._remembered(ready, each) for ready, each in chosen}
        unknown = [step_id for step_id, request in at_hand.items() if request is None]
        if unknown:
            rows = batch_store.load_viable(
                self._turn.connection, unknown, core_id=self._turn.state.core_id, now=self._turn.now
            )
            at_hand.update((row.step_id, row) for row in rows)
            if len(rows) < len(unknown):
                # Paused, taken, or held by another transaction: the sweep finds what is still due.
                self._turn.changes.then(self._sweep_again)
        return [
            load(row, definition)
            for ready, definition in chosen
            if (row := at_hand[ready.step_id]) is not None
        ]

    def _remembered(self, ready: ReadyStep, definition: StepDefinition) -> Request | None:
        context = self._turn.contents.context(ready.task_id)
        if context is None:
            return None
        results = self._turn.contents.previous_results(ready.task_id, definition.depends_on)
        if results is None:
            return None
        return Request(
            step_id=ready.step_id,
            task_id=ready.task_id,
            name=definition.name,
            attempts=ready.attempts,
            retry_limit=ready.retry_limit,
            created_at=ready.created_at,
            context=context,
            previous_results=results,
        )

    def _sweep_again(self) -> None:
        self._turn.state.viable.overflowed = True

    def _plan(self, steps: Sequence[Loaded]) -> list[_Plan]:
        shares = self._placing.assign(steps)
        packed = [
            (self._turn.state.sessions[session_id], batch)
            for (session_id, *_), given_steps in shares.items()
            for batch in pack(
                given_steps,
                size=lambda step: step.size,
                steps_max=self._turn.tuning.batch_size,
                bytes_max=self._turn.tuning.limits.steps_bytes_max,
            )
        ]
        if not packed:
            return []
        ids = self._turn.state.take_ids(
            self._turn.connection, "tasker_step_execution_batches", "batch_id", count=len(packed)
        )
        return [
            self._plan_batch(session, steps_of, BatchId(batch_id))
            for (session, steps_of), batch_id in zip(packed, ids, strict=True)
        ]

    def _plan_batch(self, session: Session, steps: list[Loaded], batch_id: BatchId) -> _Plan:
        tasks = {step.row.task_id for step in steps}
        handlers = {step.definition.handler_class for step in steps}
        batch = NewBatch(
            batch_id=batch_id,
            batch_uuid=self._turn.make_uuid(),
            task_id=tasks.pop() if len(tasks) == 1 else None,
            handler_class=handlers.pop() if len(handlers) == 1 else None,
            registration_id=session.registration_id,
            session_id=session.session_id,
            batch_size=len(steps),
            timeout_seconds=batch_timeout_seconds(
                step_timeout_seconds=max(step.definition.timeout_seconds for step in steps),
                steps_ahead=len(session.holding) + session.elsewhere + len(steps),
                concurrency=session.concurrency,
                grace_seconds=self._turn.tuning.timeout_grace_seconds,
            ),
            publication=self._turn.next_publication(session.session_id),
        )
        return _Plan(session, steps, batch, self._placing.probes.get(steps[0].row.step_id))

    def _write(self, plans: Sequence[_Plan]) -> None:
        ids = self._turn.state.take_ids(
            self._turn.connection,
            "tasker_step_execution_batch_steps",
            "id",
            count=sum(len(plan.steps) for plan in plans),
        )
        fresh = iter(ids)
        rows = [
            NewBatchStep(
                batch_step_id=next(fresh),
                step_id=step.row.step_id,
                batch_id=plan.batch.batch_id,
                sequence_order=order,
                handler_class=step.definition.handler_class,
                attempts=step.row.attempts,
                confirmed=step.once and not plan.asks_first,
            )
            for plan in plans
            for order, step in enumerate(plan.steps, start=1)
        ]
        batches = [plan.batch for plan in plans]
        batch_store.start(
            self._turn.connection,
            batches,
            rows,
            core_id=self._turn.state.core_id,
            now=self._turn.now,
        )
        self._turn.changes.then(lambda: self._remember(plans, ids))

    def _remember(self, plans: Sequence[_Plan], batch_step_ids: Iterable[int]) -> None:
        fresh = iter(batch_step_ids)
        for plan in plans:
            self._note_in_flight(plan, list(islice(fresh, len(plan.steps))))
            batch, session = plan.batch, plan.session
            sent = Sent(
                batch_id=batch.batch_id,
                batch_uuid=batch.batch_uuid,
                publication=batch.publication,
                size=sum(step.size for step in plan.steps),
                at=self._turn.now,
                confirm_start=plan.asks_first,
            )
            if plan.trying is not None:
                self._turn.state.breakers.try_with(plan.trying, batch.batch_id)
            session.take(sent, [step.row.step_id for step in plan.steps])
            self._turn.state.deadlines.put(
                batch.batch_id, self._turn.now + timedelta(seconds=batch.timeout_seconds)
            )

    def _note_in_flight(self, plan: _Plan, batch_step_ids: Sequence[int]) -> None:
        """Steps that were tried before have a history that only their rows know."""
        if any(step.row.attempts for step in plan.steps):
            return
        ids = [step.row.step_id for step in plan.steps]
        batch = BatchView(
            batch_id=plan.batch.batch_id,
            batch_uuid=plan.batch.batch_uuid,
            session_id=plan.batch.session_id,
            state=BatchState.CREATED,
            batch_size=plan.batch.batch_size,
            completed=0,
            failed=0,
            partials=0,
            completion=False,
            reconciliation_status=ReconciliationStatus.PENDING,
            transitions=1,
            published_at=None,
            batch_step_ids=dict(zip(ids, batch_step_ids, strict=True)),
        )
        self._turn.state.in_flight.put(batch, [_in_flight(each, batch) for each in plan.steps])

    def _outbox(self, plans: Iterable[_Plan]) -> Outbox:
        return Outbox(
            publications=[
                publication(
                    self._turn,
                    Sending(
                        session=plan.session,
                        batch_id=plan.batch.batch_id,
                        batch_uuid=plan.batch.batch_uuid,
                        publication=plan.batch.publication,
                        steps=plan.steps,
                        confirm_start=plan.asks_first,
                    ),
                )
                for plan in plans
            ]
        )


def _in_flight(step: Loaded, batch: BatchView) -> StepView:
    """A step that was sent for the first time, as its row is."""
    row, definition = step.row, step.definition
    return StepView(
        step_id=row.step_id,
        task_id=row.task_id,
        named_task_id=definition.named_task_id,
        named_step_id=definition.named_step_id,
        state=StepState.IN_PROGRESS,
        current_batch_id=batch.batch_id,
        attempts=1,
        retry_limit=row.retry_limit,
        retryable=definition.retryable,
        losses=0,
        unheard=False,
        task_cancelled=False,
    )


def oversized_moves(
    steps: Sequence[Loaded], bytes_max: int
) -> tuple[list[Move], list[DeadLetterRow]]:
    """Steps whose request cannot be sent at all end in error, with the sizes in the message."""
    moves, letters = [], []
    for step in steps:
        error = StepError(
            message=f"context and parents' results are {step.size} bytes; at most {bytes_max} can "
            "be sent: let a parent return a reference instead",
            error_type="StepTooLarge",
            retryable=False,
        )
        moves.append(
            Move(
                step_id=step.row.step_id,
                from_state=StepState.PENDING,
                to_state=StepState.ERROR,
                event=StepEvent.FAIL,
                error=codec.encode(error).decode(),
            )
        )
        letters.append(
            DeadLetterRow(
                step_id=step.row.step_id, reason="permanent_error", fingerprint="step_too_large"
            )
        )
    return moves, letters
