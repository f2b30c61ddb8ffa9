"""The floor of throughput: what a chain's rows cost without daemon, messages and decisions.

A bare loop writes, with the daemon's own statements, all rows of so many 4-step chains: tasks,
steps, batches, join rows, transitions and ledger, a commit for each round. Nothing is read, nothing
is decided. It runs on the database of the workload itself, so that the ratio holds on any machine.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import orjson

from tasker_zmq.cli.benchmark.load import PAD
from tasker_zmq.cli.benchmark.submitting import NAMESPACE, NOTE
from tasker_zmq.cli.benchmark.system import LIMITS, System
from tasker_zmq.clock import IdMaker, SystemClock, system_dice
from tasker_zmq.domain.ids import (
    BatchId,
    BatchUuid,
    CoreId,
    NamedTaskId,
    SessionId,
    StepId,
    TaskId,
)
from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.results import ResultStatus, Verdict
from tasker_zmq.domain.states import BatchEvent, BatchState, StepEvent, StepState
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.messages import BatchCompletion, PartialResult, StepSummary
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import connection as connections
from tasker_zmq.store import definitions as definition_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.batches import BatchAccount, BatchArrow, NewBatch, NewBatchStep
from tasker_zmq.store.ledger import LedgerRow, Recording
from tasker_zmq.store.steps import Move, NewTask

CORE: Final = CoreId("bench-floor")
SESSION: Final = SessionId("bench-floor")
WORKER: Final = "bench-floor"
LEASE_SECONDS: Final = 3_600.0
CHAIN_STEPS: Final = 4
BATCH_SIZE: Final = 10  # the default of dispatch.batch_size
TASKS_PER_ROUND: Final = 100
ARROWS: Final = (
    (BatchState.CREATED, BatchState.PUBLISHED, BatchEvent.PUBLISH),
    (BatchState.PUBLISHED, BatchState.IN_PROGRESS, BatchEvent.START),
    (BatchState.IN_PROGRESS, BatchState.COMPLETED, BatchEvent.COMPLETE),
)


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """A batch whose results the next round writes."""

    batch: NewBatch
    steps: Sequence[StepId]


@dataclass
class Floor:
    """The loop; `steps_per_second` does all of it."""

    system: System
    in_flight: int  # steps in a round
    _clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self._ids = IdMaker(self._clock, system_dice())
        self._result = orjson.dumps({"order_id": 1, "accepted": True, "pad": PAD}).decode()

    def steps_per_second(self, tasks: int) -> float:
        """From the first task's creation to the last step's end."""
        engine = connections.create(self.system.url, purpose="bench-floor", limits=LIMITS)
        try:
            with engine.connect() as connection:
                self._connection = connection
                named_task_id = self._begin()
                started = time.perf_counter()
                steps = self._run(named_task_id, tasks)
                return steps / (time.perf_counter() - started)
        finally:
            engine.dispose()

    def _begin(self) -> NamedTaskId:
        """A living core under whose name the tasks are; the daemon leaves them alone."""
        connection = self._connection
        with connection.begin():
            worker_store.start_core(
                connection, CORE, {}, now=self._clock.now(), lease_seconds=LEASE_SECONDS
            )
            known = definition_store.identify(
                connection, namespace=NAMESPACE, name="chain4", version=None
            )
        if known is None:
            raise LookupError("the workflow chain4 is not published")
        return known.named_task_id

    def _run(self, named_task_id: NamedTaskId, tasks: int) -> int:
        waiting: list[StepId] = []
        for created in self._created(named_task_id, tasks):
            waiting += created
        sent: list[_Sent] = []
        steps = 0
        while waiting or sent:
            now = self._clock.now()
            with self._connection.begin():
                if sent:
                    waiting += self._write_results(sent, now)
                chosen, waiting = waiting[: self.in_flight], waiting[self.in_flight :]
                sent = self._send(chosen, now) if chosen else []
            steps += len(chosen)
        return steps

    def _created(self, named_task_id: NamedTaskId, tasks: int) -> Iterator[Sequence[StepId]]:
        context = orjson.dumps({"order": {"id": 1, "note": NOTE}}).decode()
        for first in range(0, tasks, TASKS_PER_ROUND):
            with self._connection.begin():
                ids = self._reserve("tasker_tasks", "task_id", min(TASKS_PER_ROUND, tasks - first))
                new = [_task(TaskId(each), named_task_id, context) for each in ids]
                steps = self._reserve(
                    "tasker_workflow_steps", "workflow_step_id", len(new) * CHAIN_STEPS
                )
                now = self._clock.now()
                made = step_store.create(self._connection, new, steps, core_id=CORE, now=now)
                yield [StepId(ids[0]) for ids in made.values()]

    def _reserve(self, table: str, column: str, count: int) -> list[int]:
        return batch_store.reserve_ids(self._connection, table, column, count=count)

    def _send(self, chosen: Sequence[StepId], now: datetime) -> list[_Sent]:
        packed = [chosen[each : each + BATCH_SIZE] for each in range(0, len(chosen), BATCH_SIZE)]
        ids = self._reserve("tasker_step_execution_batches", "batch_id", len(packed))
        sent = [
            _Sent(batch=self._batch(BatchId(batch_id), len(steps)), steps=steps)
            for batch_id, steps in zip(ids, packed, strict=True)
        ]
        places = iter(self._reserve("tasker_step_execution_batch_steps", "id", len(chosen)))
        rows = [
            NewBatchStep(
                batch_step_id=next(places),
                step_id=step,
                batch_id=each.batch.batch_id,
                sequence_order=order,
                handler_class="bench",
                attempts=0,
            )
            for each in sent
            for order, step in enumerate(each.steps, start=1)
        ]
        batch_store.start(
            self._connection, [each.batch for each in sent], rows, core_id=CORE, now=now
        )
        return sent

    def _batch(self, batch_id: BatchId, size: int) -> NewBatch:
        return NewBatch(
            batch_id=batch_id,
            batch_uuid=self._ids.uuid7(),
            task_id=None,
            handler_class="bench",
            registration_id=None,
            session_id=SESSION,
            batch_size=size,
            timeout_seconds=60,
            publication=1,
        )

    def _write_results(self, sent: Sequence[_Sent], now: datetime) -> Sequence[StepId]:
        moves = [
            Move(
                step_id=step,
                from_state=StepState.IN_PROGRESS,
                to_state=StepState.COMPLETE,
                event=StepEvent.COMPLETE,
                results=self._result,
                worker_name=WORKER,
            )
            for each in sent
            for step in each.steps
        ]
        recording = Recording(
            entries=[row for each in sent for row in self._entries(each)],
            accounts=[_account(each.batch, now) for each in sent],
            arrows=[arrow for each in sent for arrow in _arrows(each.batch)],
            core_id=CORE,
        )
        moved = step_store.apply(self._connection, moves, recording, now=now)
        return [each.step_id for each in moved.ready]

    def _entries(self, sent: _Sent) -> Iterator[LedgerRow]:
        batch = sent.batch
        for number, step in enumerate(sent.steps, start=1):
            partial = PartialResult(
                batch_id=BatchUuid(batch.batch_uuid),
                step_id=step,
                status=ResultStatus.COMPLETED,
                output=msgspec.Raw(self._result.encode()),
                worker_id=WORKER,
                sequence=number,
                session_id=SESSION,
            )
            yield _entry(batch, topics.PARTIAL_RESULT, codec.encode(partial), sequence=number)
        completion = BatchCompletion(
            batch_id=BatchUuid(batch.batch_uuid),
            protocol_version="2.0",
            total_steps=batch.batch_size,
            completed_steps=batch.batch_size,
            failed_steps=0,
            in_progress_steps=0,
            step_summaries=tuple(
                StepSummary(step_id=each, final_status=ResultStatus.COMPLETED)
                for each in sent.steps
            ),
            session_id=SESSION,
        )
        yield _entry(batch, topics.BATCH_COMPLETION, codec.encode(completion), sequence=None)


def _task(task_id: TaskId, named_task_id: NamedTaskId, context: str) -> NewTask:
    return NewTask(
        task_id=task_id,
        named_task_id=named_task_id,
        step_count=CHAIN_STEPS,
        context=context,
        identity=None,
        priority=0,
        tags="[]",
        initiator=None,
        source_system=None,
        reason=None,
        correlation_id=None,
    )


def _entry(batch: NewBatch, kind: str, body: bytes, *, sequence: int | None) -> LedgerRow:
    return LedgerRow(
        message_type=kind,
        verdict=Verdict.APPLIED,
        batch_id=batch.batch_id,
        worker_id=WORKER,
        session_id=SESSION,
        sequence=sequence,
        status=None if sequence is None else ResultStatus.COMPLETED,
        execution_time_ms=0.1,
        raw_text=body.decode(),
    )


def _account(batch: NewBatch, now: datetime) -> BatchAccount:
    return BatchAccount(
        batch_id=batch.batch_id,
        partials=batch.batch_size,
        completed=batch.batch_size,
        failed=0,
        completion=True,
        state=BatchState.COMPLETED,
        transitions=1 + len(ARROWS),
        published_at=now,
        reconciliation_status=ReconciliationStatus.CONSISTENT,
    )


def _arrows(batch: NewBatch) -> Iterator[BatchArrow]:
    for number, (source, target, event) in enumerate(ARROWS, start=1):
        yield BatchArrow(
            batch_id=batch.batch_id,
            sort_key=1 + number,
            from_state=source,
            to_state=target,
            event=event,
            last=number == len(ARROWS),
        )
