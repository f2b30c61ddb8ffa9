"""Batches and steps as a tick has loaded them, and what it has heard of them since."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tasker_zmq.domain.ids import BatchId, NamedStepId, NamedTaskId, SessionId, StepId, TaskId
from tasker_zmq.domain.reconciliation import Accounts
from tasker_zmq.domain.states import BATCH, OPEN_BATCH_STATES, BatchEvent, BatchState, StepState
from tasker_zmq.protocol.messages import ResultMessage
from tasker_zmq.store.batches import BatchAccount, BatchArrow, FormerAccount
from tasker_zmq.store.statements import Row

_SILENT = (BatchState.CREATED, BatchState.PUBLISHED)


class StepView(msgspec.Struct, kw_only=True, gc=False):
    """A loaded step; `state` follows the moves that the tick has decided."""

    step_id: StepId
    task_id: TaskId
    named_task_id: NamedTaskId
    named_step_id: NamedStepId
    state: StepState
    current_batch_id: BatchId
    attempts: int
    retry_limit: int
    retryable: bool
    losses: int
    unheard: bool
    task_cancelled: bool


class BatchView(msgspec.Struct, kw_only=True):
    """A loaded batch; counters grow and the state moves as the tick hears of it."""

    batch_id: BatchId
    batch_uuid: str
    session_id: SessionId
    state: BatchState
    batch_size: int
    completed: int
    failed: int
    partials: int
    completion: bool
    reconciliation_status: str
    transitions: int
    published_at: datetime | None
    batch_step_ids: dict[StepId, int] = msgspec.field(default_factory=dict)
    # Allowed to begin, and must not run twice.
    confirmed: set[StepId] = msgspec.field(default_factory=set)
    arrows: list[tuple[BatchState, BatchState, BatchEvent]] = msgspec.field(default_factory=list)
    heard: dict[str, int] = msgspec.field(default_factory=dict)
    completion_heard: bool = False
    touched: bool = False
    heard_before: bool = False  # earlier ticks heard of it, and only the ledger knows what
    told: Accounts | None = None  # what earlier ticks heard of it
    recalled: bool = False  # from memory: its row is not locked
    messages: list[ResultMessage] = msgspec.field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.state in OPEN_BATCH_STATES

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be heard of it."""
        return self.completion and not self.open

    @property
    def ended(self) -> int:
        return self.completed + self.failed

    def move(self, event: BatchEvent) -> None:
        target = BATCH.after(self.state, event)
        self.arrows.append((self.state, target, event))
        self.state = target
        self.touched = True

    def at_rest(self) -> "BatchView":
        """As it is for the next tick, which has heard nothing of it yet."""
        return msgspec.structs.replace(
            self,
            transitions=self.transitions + len(self.arrows),
            arrows=[],
            heard={},
            completion_heard=False,
            touched=False,
            heard_before=self.told is None and self.state not in _SILENT,
            messages=[],
        )

    @property
    def former(self) -> FormerAccount | None:
        """What memory had of it, for the row to agree with."""
        if not self.recalled:
            return None
        partials = self.partials - self.heard.get("partials", 0)
        completion = self.completion and not self.completion_heard
        return FormerAccount(self.transitions, partials, completion, self.session_id)

    def count(self, *, completed: bool, partial: bool) -> None:
        """One more step of it has ended."""
        self.touched = True
        kinds = ["completed" if completed else "failed"] + (["partials"] if partial else [])
        for kind in kinds:
            self.heard[kind] = self.heard.get(kind, 0) + 1
            setattr(self, kind, getattr(self, kind) + 1)

    def take_back_failure(self) -> None:
        """A step that was counted as failed when its time ran out has succeeded after all."""
        self.heard["failed"] = self.heard.get("failed", 0) - 1
        self.failed -= 1

    def close(self, *, completed: int, failed: int) -> None:
        """End it by how many of its steps completed and failed."""
        if failed == 0:
            self.move(BatchEvent.COMPLETE)
        elif completed == 0:
            self.move(BatchEvent.FAIL)
        else:
            self.move(BatchEvent.COMPLETE_PARTIALLY)


@dataclass
class Views:
    """Everything that a tick has loaded about the batches and steps that it deals with."""

    batches: dict[str, BatchView] = field(default_factory=dict)
    steps: dict[StepId, StepView] = field(default_factory=dict)

    def load(self, loaded: Iterable[Row]) -> None:
        for row in loaded:
            batch = self.batches.get(row.batch_uuid) or self._add_batch(row)
            if row.batch_step_id is None or row.workflow_step_id is None:
                continue
            batch.batch_step_ids[row.workflow_step_id] = row.batch_step_id
            if row.confirmed_at is not None:
                batch.confirmed.add(row.workflow_step_id)
            if row.workflow_step_id not in self.steps:
                self.steps[row.workflow_step_id] = _step(row)

    def recall(self, batch: BatchView, step: StepView | None) -> None:
        """See a batch and a step of it as memory has them."""
        if batch.batch_uuid not in self.batches:
            self.batches[batch.batch_uuid] = msgspec.structs.replace(
                batch, recalled=True, arrows=[], heard={}, messages=[]
            )
        if step is not None and step.step_id not in self.steps:
            self.steps[step.step_id] = copy(step)

    def _add_batch(self, row: Row) -> BatchView:
        batch = self.batches[row.batch_uuid] = BatchView(
            batch_id=row.batch_id,
            batch_uuid=row.batch_uuid,
            session_id=row.session_id,
            state=BatchState(row.batch_state),
            batch_size=row.batch_size,
            completed=row.completed_steps,
            failed=row.failed_steps,
            partials=row.partial_results_received,
            completion=row.final_completion_received,
            reconciliation_status=row.reconciliation_status,
            transitions=row.batch_transitions,
            published_at=row.published_at,
            heard_before=row.batch_state not in _SILENT,
        )
        return batch

    def step(self, batch: BatchView, step_id: StepId) -> StepView | None:
        """A step that this batch carries; None for a stranger."""
        return self.steps.get(step_id) if step_id in batch.batch_step_ids else None


def _step(row: Row) -> StepView:
    return StepView(
        step_id=row.workflow_step_id,
        task_id=row.task_id,
        named_task_id=row.named_task_id,
        named_step_id=row.named_step_id,
        state=StepState(row.step_state),
        current_batch_id=row.current_batch_id,
        attempts=row.attempts,
        retry_limit=row.retry_limit,
        retryable=row.retryable,
        losses=row.losses,
        unheard=row.unheard,
        task_cancelled=row.task_cancelled,
    )


def rows(views: Iterable[BatchView]) -> tuple[list[BatchAccount], list[BatchArrow]]:
    """What must be written of the touched batches, in key order."""
    accounts: list[BatchAccount] = []
    arrows: list[BatchArrow] = []
    for batch in sorted(views, key=lambda view: view.batch_id):
        if not batch.touched:
            continue
        last = len(batch.arrows)
        accounts.append(
            BatchAccount(
                batch_id=batch.batch_id,
                partials=batch.heard.get("partials", 0),
                completed=batch.heard.get("completed", 0),
                failed=batch.heard.get("failed", 0),
                completion=batch.completion_heard,
                state=batch.state,
                transitions=batch.transitions + last,
                published_at=batch.published_at,
                reconciliation_status=batch.reconciliation_status,
                former=batch.former,
            )
        )
        arrows += [
            BatchArrow(
                batch_id=batch.batch_id,
                sort_key=batch.transitions + number,
                from_state=source,
                to_state=target,
                event=event,
                last=number == last,
            )
            for number, (source, target, event) in enumerate(batch.arrows, start=1)
        ]
    return accounts, arrows
