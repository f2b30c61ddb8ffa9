"""A little history for tests that read, written through the store's own functions: it is true."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, text

from tasker_zmq.clock import IdMaker
from tasker_zmq.commands.publishing import definition
from tasker_zmq.domain.ids import (
    BatchId,
    CoreId,
    HandlerClass,
    NamedTaskId,
    SessionId,
    StepId,
    TaskId,
)
from tasker_zmq.domain.results import DeadLetterReason
from tasker_zmq.domain.states import STEP, BatchEvent, BatchState, StepEvent, StepState
from tasker_zmq.domain.supported import Association, Declared
from tasker_zmq.domain.template import StepTemplate, TaskTemplate
from tasker_zmq.pipeline import accounts, reconcile
from tasker_zmq.pipeline.accounts import BatchView
from tasker_zmq.store import batches, definitions, ledger, schema, steps, workers
from tasker_zmq.store.batches import NewBatch, NewBatchStep
from tasker_zmq.store.ledger import DeadLetterRow, LedgerRow
from tasker_zmq.store.steps import Move, NewTask
from tasker_zmq.store.supported import associate
from tasker_zmq.store.workers import NewRegistration
from tasker_zmq.testing import ManualClock

CORE = CoreId("core-1")
VERSION = "1.0.0"


def diamond(name: str = "fulfil_order", version: str = VERSION) -> TaskTemplate:
    """validate, then reserve and charge side by side, then ship."""
    return TaskTemplate(
        namespace="orders",
        name=name,
        version=version,
        description="From cart to door.",
        input_schema={"type": "object"},
        source={"name": name, "namespace_name": "orders", "version": version},
        steps=(
            _step("validate", ()),
            _step("reserve", ("validate",)),
            _step("charge", ("validate",), retryable=False),
            _step("ship", ("reserve", "charge")),
        ),
    )


def _step(name: str, parents: tuple[str, ...], *, retryable: bool = True) -> StepTemplate:
    return StepTemplate(
        name=name,
        handler_class=HandlerClass(f"orders.{name}"),
        depends_on=parents,
        retryable=retryable,
        retry_limit=2,
    )


class Story:
    """Tells what happens, one thing after another; its clock stands still unless it is moved."""

    def __init__(self, connection: Connection, clock: ManualClock) -> None:
        self.connection = connection
        self.clock = clock
        self._ids = IdMaker(clock, random.Random(7))
        schema.ensure_partitions(connection, self.now)
        workers.start_core(connection, CORE, {}, now=self.now, lease_seconds=3600)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def publish(self, template: TaskTemplate) -> NamedTaskId:
        return definitions.publish(self.connection, definition(template), now=self.now)

    def task(
        self,
        named_task_id: NamedTaskId,
        *,
        identity: str | None = None,
        tags: Sequence[str] = (),
        context: dict[str, Any] | None = None,
    ) -> TaskId:
        (number,) = batches.reserve_ids(self.connection, "tasker_tasks", "task_id", count=1)
        task = NewTask(
            task_id=TaskId(number),
            named_task_id=named_task_id,
            step_count=len(definitions.load(self.connection, named_task_id).steps),
            context=orjson.dumps(context or {}).decode(),
            identity=identity or f"command:{self._ids.uuid7()}",
            priority=0,
            tags=orjson.dumps(list(tags)).decode(),
            initiator="test",
            source_system=None,
            reason=None,
            correlation_id=None,
        )
        step_ids = batches.reserve_ids(
            self.connection, "tasker_workflow_steps", "workflow_step_id", count=task.step_count
        )
        steps.create(self.connection, [task], step_ids, core_id=CORE, now=self.now)
        return task.task_id

    def worker(
        self,
        name: str,
        handlers: Sequence[str],
        *,
        credit: int = 4,
        supported: Sequence[NamedTaskId] = (),
    ) -> NewRegistration:
        new = NewRegistration(
            worker_name=name,
            session_id=SessionId(f"s-{name}"),
            core_id=CORE,
            connection_type="tcp",
            connection_details={},
            protocol_version="2.0",
            handlers=tuple(handlers),
            credit=credit,
            metadata={"language_runtime": "python", "pid": 4711},
        )
        worker_id, _ = workers.register(self.connection, new, now=self.now)
        known = [definitions.load(self.connection, each).steps[0].named_task for each in supported]
        declared = Declared(tasks=dict.fromkeys(known, Association()))
        associate(self.connection, worker_id, declared, now=self.now)
        return new

    def step(self, task_id: TaskId, name: str) -> StepId:
        return StepId(
            self.connection.execute(
                text(
                    "SELECT workflow_step_id FROM tasker_workflow_steps "
                    "WHERE task_id = :task_id AND name = :name"
                ),
                {"task_id": task_id, "name": name},
            ).scalar_one()
        )

    def send(self, step_ids: Sequence[StepId], worker: NewRegistration) -> "SentBatch":
        ids = partial(batches.reserve_ids, self.connection)
        (number,) = ids("tasker_step_execution_batches", "batch_id", count=1)
        registration_id, known = self._about(worker.session_id, step_ids)
        new = NewBatch(
            batch_id=BatchId(number),
            batch_uuid=self._ids.uuid7(),
            task_id=None,
            handler_class=None,
            registration_id=registration_id,
            session_id=worker.session_id,
            batch_size=len(step_ids),
            timeout_seconds=60,
            publication=1,
        )
        places = iter(ids("tasker_step_execution_batch_steps", "id", count=len(step_ids)))
        carried = [
            NewBatchStep(
                batch_step_id=next(places),
                step_id=step_id,
                batch_id=new.batch_id,
                sequence_order=order,
                handler_class=f"orders.{known[step_id][0]}",
                attempts=known[step_id][1],
            )
            for order, step_id in enumerate(step_ids, start=1)
        ]
        batches.start(self.connection, [new], carried, core_id=CORE, now=self.now)
        return SentBatch(self, new, worker)

    def _about(
        self, session_id: SessionId, step_ids: Sequence[StepId]
    ) -> tuple[Any, dict[StepId, tuple[str, int]]]:
        registration_id = self.connection.execute(
            text("SELECT registration_id FROM tasker_worker_registrations WHERE session_id = :s"),
            {"s": session_id},
        ).scalar_one()
        names = self.connection.execute(
            text(
                "SELECT workflow_step_id, name, attempts FROM tasker_workflow_steps "
                "WHERE workflow_step_id = ANY(:ids)"
            ),
            {"ids": list(step_ids)},
        )
        return registration_id, {
            StepId(number): (name, attempts) for number, name, attempts in names
        }

    def fail_task(self, task_id: TaskId) -> None:
        steps.fail_tasks(self.connection, [task_id], now=self.now)

    def run(self, step_ids: Sequence[StepId], worker: NewRegistration) -> "SentBatch":
        """Send the steps, let all of them complete, and hear the completion."""
        batch = self.send(step_ids, worker)
        for step_id in step_ids:
            batch.complete(step_id)
        batch.completion()
        return batch

    def run_task(self, task_id: TaskId, worker: NewRegistration) -> None:
        """A whole diamond, from its first step to its last."""
        for names in (("validate",), ("reserve", "charge"), ("ship",)):
            self.run([self.step(task_id, name) for name in names], worker)


class SentBatch:
    """A batch on its way; what its worker says is written as the daemon would write it."""

    def __init__(self, story: Story, new: NewBatch, worker: NewRegistration) -> None:
        self._story = story
        self._worker = worker
        self.batch_id = new.batch_id
        self.batch_uuid = new.batch_uuid
        self._counts = {"completed": 0, "failed": 0, "partials": 0}
        self._state = BatchState.CREATED
        self._transitions = 1
        self._size = new.batch_size
        self._completion = False
        self._sequence = 0

    def complete(self, step_id: StepId, results: Any = None) -> None:
        self._move(step_id, StepEvent.COMPLETE, results=orjson.dumps(results or {}).decode())
        self.note("completed", step_id)

    def postpone(self, step_id: StepId, *, seconds: float) -> None:
        due = self._story.now + timedelta(seconds=seconds)
        self._move(step_id, StepEvent.POSTPONE, error=_error("Timeout", "no answer"), due=due)
        self.note("failed", step_id)

    def fail(self, step_id: StepId, message: str = "card declined") -> None:
        self._move(step_id, StepEvent.FAIL, error=_error("PermanentError", message))
        self.note("failed", step_id)
        letter = DeadLetterRow(
            step_id=step_id, reason=DeadLetterReason.PERMANENT_ERROR, fingerprint="abc"
        )
        ledger.write_dead_letters(self._story.connection, [letter], now=self._story.now)

    def note(self, status: str, step_id: StepId, verdict: str = "applied") -> None:
        """A partial result in the ledger, with spaces and order as they came."""
        story = self._story
        self._sequence += 1
        sequence = self._sequence
        said = f'"step_id": {step_id}, "sequence": {sequence}, "batch_id": "{self.batch_uuid}"'
        raw = f'{{"status":  "{status}", {said}}}'
        row = LedgerRow(
            message_type="partial_result",
            verdict=verdict,
            batch_id=self.batch_id,
            batch_step_id=self._place(step_id),
            worker_id=self._worker.worker_name,
            session_id=self._worker.session_id,
            sequence=sequence,
            status=status,
            execution_time_ms=1.5,
            raw_text=raw,
        )
        steps.apply(
            story.connection, [], ledger.Recording(entries=[row], core_id=CORE), now=story.now
        )

    def completion(self, *, agrees: bool = True) -> None:
        view = self._view()
        view.completion_heard = view.touched = True
        self._completion = True
        self._write(view)
        said = {"batch_id": self.batch_uuid, "total_steps": self._size}
        said |= {"completed_steps": self._counts["completed"] + (not agrees)}
        said |= {"failed_steps": self._counts["failed"], "in_progress_steps": 0}
        row = LedgerRow(
            message_type="batch_completion",
            verdict="applied",
            batch_id=self.batch_id,
            worker_id=self._worker.worker_name,
            session_id=self._worker.session_id,
            raw_text=orjson.dumps({**said, "step_summaries": []}).decode(),
        )
        story = self._story
        steps.apply(
            story.connection, [], ledger.Recording(entries=[row], core_id=CORE), now=story.now
        )
        found = reconcile.load(story.connection, [self.batch_id])
        reconcile.store(story.connection, found, now=story.now)

    def _place(self, step_id: StepId) -> int:
        return int(
            self._story.connection.execute(
                text(
                    "SELECT id FROM tasker_step_execution_batch_steps "
                    "WHERE batch_id = :batch_id AND workflow_step_id = :step_id"
                ),
                {"batch_id": self.batch_id, "step_id": step_id},
            ).scalar_one()
        )

    def _move(
        self,
        step_id: StepId,
        event: StepEvent,
        *,
        results: str | None = None,
        error: str | None = None,
        due: datetime | None = None,
    ) -> None:
        move = Move(
            step_id=step_id,
            from_state=StepState.IN_PROGRESS,
            to_state=STEP.after(StepState.IN_PROGRESS, event),
            event=event,
            results=results,
            error=error,
            next_attempt_at=due,
            worker_name=self._worker.worker_name,
        )
        steps.apply(self._story.connection, [move], now=self._story.now)
        view = self._view()
        if view.state is not BatchState.IN_PROGRESS:
            view.move(BatchEvent.START)
        view.count(completed=event is StepEvent.COMPLETE, partial=True)
        if view.ended >= self._size:
            view.close(completed=view.completed, failed=view.failed)
        self._write(view)

    def _view(self) -> BatchView:
        return BatchView(
            batch_id=self.batch_id,
            batch_uuid=self.batch_uuid,
            session_id=self._worker.session_id,
            state=self._state,
            batch_size=self._size,
            completed=self._counts["completed"],
            failed=self._counts["failed"],
            partials=self._counts["partials"],
            completion=self._completion,
            reconciliation_status="pending",
            transitions=self._transitions,
            published_at=self._story.now,
        )

    def _write(self, view: BatchView) -> None:
        rows, arrows = accounts.rows([view])
        story = self._story
        recording = ledger.Recording(accounts=rows, arrows=arrows, core_id=CORE)
        steps.apply(story.connection, [], recording, now=story.now)
        self._state = view.state
        self._transitions += len(arrows)
        self._counts = {
            "completed": view.completed,
            "failed": view.failed,
            "partials": view.partials,
        }


def _error(kind: str, message: str) -> str:
    return orjson.dumps({"message": message, "error_type": kind}).decode()


HANDLERS = ("orders.validate", "orders.reserve", "orders.charge", "orders.ship")


@dataclass(frozen=True)
class Cast:
    """One task that completed, one that failed, one half-way with a retry ahead of it."""

    story: Story
    named_task_id: NamedTaskId
    worker: NewRegistration
    complete: TaskId
    failed: TaskId
    half_way: TaskId
    open_batch: SentBatch


def told(connection: Connection, clock: ManualClock) -> Cast:
    named = (story := Story(connection, clock)).publish(diamond())
    worker = story.worker("anna", HANDLERS, supported=[named])
    complete = story.task(named, identity="ORD-1", tags=("vip",), context={"order_id": 1})
    story.run_task(complete, worker)
    failed = story.task(named, identity="ORD-2")
    story.run([story.step(failed, "validate")], worker)
    batch = story.send([story.step(failed, "reserve"), story.step(failed, "charge")], worker)
    batch.complete(story.step(failed, "reserve"))
    batch.fail(story.step(failed, "charge"))
    batch.completion(agrees=False)
    story.fail_task(failed)
    half_way = story.task(named)
    story.run([story.step(half_way, "validate")], worker)
    batch = story.send([story.step(half_way, "reserve"), story.step(half_way, "charge")], worker)
    batch.note("in_progress", story.step(half_way, "charge"), verdict="noted")
    batch.postpone(story.step(half_way, "reserve"), seconds=30)
    return Cast(story, named, worker, complete, failed, half_way, batch)
