"""A worker without threads and sockets: takes publications, answers with the frames of the wire."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import orjson

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId
from tasker_zmq.pipeline.inbox import ReceivedResult
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import InHand, ResultsRecorded
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    OldStepMetadata,
    OldStepResult,
    PartialResult,
    ResultMessage,
    StepBatch,
    StepError,
    StepRequest,
    StepSummary,
)


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a simulated handler says of one request; `output` is JSON text or what becomes it."""

    status: str = "completed"
    output: object = None
    error: StepError | None = None
    retryable: bool | None = None

    @property
    def output_json(self) -> msgspec.Raw:
        if isinstance(self.output, bytes):
            return msgspec.Raw(self.output)
        return msgspec.Raw(orjson.dumps(self.output))


Handler = Callable[[StepRequest], Word]


def failing(message: str = "it broke", *, retryable: bool | None = None) -> Word:
    """The word of a handler that failed."""
    return Word(status="failed", error=StepError(message=message, retryable=retryable))


def frame(message: ResultMessage) -> ReceivedResult:
    """One frame of the result socket, as the daemon's io thread hands it up."""
    topic = topics.subscription(str(message.__struct_config__.tag))
    return ReceivedResult((codec.encode_frame(topic, message),))


class SimulatedWorker:
    """Runs what it is sent, when it is told to; `requests` is everything it ever got."""

    def __init__(
        self, name: str, session_id: SessionId | None, *, handler: Handler, route: tuple[bytes, ...]
    ) -> None:
        self.name = name
        self.session_id = session_id
        self.route = route
        self.handler = handler
        self.silent = False
        self.hears = True  # else no publication reaches it
        self.unrecorded: dict[BatchUuid, None] = {}  # taken, and not known to be recorded
        self.in_hand: list[StepBatch] = []
        self.requests: list[StepRequest] = []
        self._sequences: dict[str, int] = {}

    @property
    def topic(self) -> bytes:
        if self.session_id is None:
            return topics.LEGACY_STEPS_TOPIC
        return topics.steps_topic(self.session_id)

    def take(self, batch: StepBatch) -> None:
        if not self.hears or batch.batch_id in self.unrecorded:
            return  # lost, or known already
        self.unrecorded[batch.batch_id] = None
        self.in_hand.append(batch)
        self.requests += batch.steps

    def note_recorded(self, told: ResultsRecorded) -> None:
        """What is in the ledger is no longer in hand."""
        for each in told.recorded:
            if each.step_id is None:
                self.unrecorded.pop(each.batch_id, None)

    def claims(self) -> tuple[InHand, ...]:
        """What it says it has in hand."""
        return tuple(InHand(batch_id=batch_id) for batch_id in self.unrecorded)

    def batch(self) -> StepBatch:
        """The one batch in hand, taken out of it: the caller answers for it."""
        if len(self.in_hand) != 1:
            raise AssertionError(f"wanted one batch in hand, found {len(self.in_hand)}")
        return self.in_hand.pop()

    def work(self) -> list[ReceivedResult]:
        """Run everything in hand: a partial result per step, then each batch's completion."""
        frames = []
        for batch in self.in_hand:
            frames += self.answers(batch)
        self.in_hand = []
        return frames

    def answers(self, batch: StepBatch) -> list[ReceivedResult]:
        words = [(request.step_id, self.handler(request)) for request in batch.steps]
        partials = [self.partial(batch, step_id, word) for step_id, word in words]
        return [*partials, self.completion(batch, words)]

    def partial(self, batch: StepBatch, step_id: StepId, word: Word) -> ReceivedResult:
        sequence = self._sequences.get(batch.batch_id, 0) + 1
        self._sequences[batch.batch_id] = sequence
        message = PartialResult(
            batch_id=batch.batch_id,
            step_id=step_id,
            status=word.status,
            output=word.output_json,
            error=word.error,
            retryable=word.retryable,
            worker_id=self.name,
            sequence=sequence,
            session_id=self.session_id,
        )
        return frame(message)

    def completion(self, batch: StepBatch, words: Sequence[tuple[StepId, Word]]) -> ReceivedResult:
        message = BatchCompletion(
            batch_id=batch.batch_id,
            protocol_version="2.0",
            total_steps=len(batch.steps),
            completed_steps=_count(words, "completed"),
            failed_steps=_count(words, "failed"),
            in_progress_steps=len(batch.steps) - len(words),
            step_summaries=tuple(
                StepSummary(step_id=step_id, final_status=word.status) for step_id, word in words
            ),
            session_id=self.session_id,
            worker_id=self.name,
        )
        return frame(message)

    def batch_error(self, batch: StepBatch, error: StepError) -> ReceivedResult:
        message = BatchError(batch_id=batch.batch_id, error=error, session_id=self.session_id)
        return frame(message)

    def old_response(self, batch: StepBatch) -> ReceivedResult:
        """The older one-shot answer: all results in one message."""
        words = [(request.step_id, self.handler(request)) for request in batch.steps]
        message = OldResponse(
            batch_id=batch.batch_id,
            session_id=self.session_id,
            results=tuple(
                OldStepResult(
                    step_id=step_id,
                    status=word.status,
                    output=word.output_json,
                    error=word.error,
                    metadata=OldStepMetadata(execution_time_ms=1.0, retryable=word.retryable),
                )
                for step_id, word in words
            ),
        )
        return frame(message)


def _count(words: Iterable[tuple[StepId, Word]], status: str) -> int:
    return sum(1 for _, word in words if word.status == status)
