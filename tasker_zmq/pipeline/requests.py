"""Steps as workers are sent them: what a request is made of, and the frame that carries a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from tasker_zmq.domain.ids import BatchId, BatchUuid, StepId, TaskId
from tasker_zmq.domain.supported import NO_CONFIGURATION, Association
from tasker_zmq.pipeline.inbox import Publication
from tasker_zmq.pipeline.state import LEGACY_SESSION, Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.messages import StepBatch, StepMetadata, StepRequest
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.statements import Row

ENVELOPE_BYTES = 1_024  # of a step's request beside its context, config and parents' results


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What load_viable_steps would return, from memory; both texts are JSON."""

    step_id: StepId
    task_id: TaskId
    name: str
    attempts: int
    retry_limit: int
    created_at: datetime
    context: str
    previous_results: str


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """A step that may be sent, with its definition; `size` in bytes on the wire, about."""

    row: Request | Row
    definition: StepDefinition
    size: int

    @property
    def once(self) -> bool:
        """Whether it must not run twice, so that a worker asks before it begins."""
        return self.definition.confirm_start or not self.definition.retryable


@dataclass(frozen=True, kw_only=True)
class Sending:
    """One batch on its way to one session; `delivery` counts from 1."""

    session: Session
    batch_id: BatchId
    batch_uuid: str
    publication: int
    steps: Sequence[Loaded]
    delivery: int = 1
    confirm_start: bool = False


def load(row: Request | Row, definition: StepDefinition) -> Loaded:
    """A request with its size."""
    texts = len(row.context) + len(row.previous_results)
    if not (row.context.isascii() and row.previous_results.isascii()):
        texts = len(row.context.encode()) + len(row.previous_results.encode())
    return Loaded(row, definition, texts + len(definition.handler_config) + ENVELOPE_BYTES)


def publication(turn: Turn, sending: Sending) -> Publication:
    """The frame for the step publisher."""
    legacy = sending.session.session_id == LEGACY_SESSION
    batch = StepBatch(
        batch_id=BatchUuid(sending.batch_uuid),
        protocol_version=turn.tuning.protocol_version,
        steps=tuple(_request(turn, step, sending.session) for step in sending.steps),
        core_id=turn.state.core_id,
        session_id=None if legacy else sending.session.session_id,
        publication=None if legacy else sending.publication,
        delivery=sending.delivery,
        confirm_start=sending.confirm_start,
    )
    return Publication(sending.batch_id, _topic(sending.session), codec.encode(batch))


def _request(turn: Turn, step: Loaded, session: Session) -> StepRequest:
    row, definition = step.row, step.definition
    association = session.declared.find(definition.named_task)
    return StepRequest(
        step_id=row.step_id,
        task_id=row.task_id,
        step_name=row.name,
        handler_class=definition.handler_class,
        handler_config=msgspec.Raw(definition.handler_config),
        task_context=msgspec.Raw(row.context.encode()),
        previous_results=msgspec.Raw(row.previous_results.encode()),
        depends_on_steps=definition.depends_on,
        metadata=StepMetadata(
            attempt=row.attempts,
            retry_limit=row.retry_limit,
            timeout_ms=int(definition.timeout_seconds * 1_000),
            created_at=turn.now.isoformat(),
            idempotency_key=f"{row.step_id}-{int(row.created_at.timestamp() * 1_000):x}",
        ),
        worker_configuration=_configuration(association),
    )


def _configuration(association: Association | None) -> msgspec.Raw | msgspec.UnsetType:
    if association is None or association.configuration == NO_CONFIGURATION:
        return msgspec.UNSET
    return msgspec.Raw(association.configuration)


def _topic(session: Session) -> bytes:
    if session.session_id == LEGACY_SESSION:
        return topics.LEGACY_STEPS_TOPIC
    return topics.steps_topic(session.session_id)
