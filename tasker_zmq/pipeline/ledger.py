"""Ledger rows for received messages: the text as it came, and what became of it."""

import msgspec
import orjson

from tasker_zmq.domain.results import Verdict
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.messages import BatchCompletion, BatchError, OldResponse, PartialResult
from tasker_zmq.store.ledger import LedgerRow

RAW_BYTES_MAX = 4_096
UNDECODABLE = "undecodable"


class Ruling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one message; `reason` says why when it was not simply applied."""

    verdict: Verdict
    reason: str = ""
    batch_id: int | None = None
    batch_step_id: int | None = None


def row(decoded: Decoded, ruling: Ruling) -> LedgerRow:
    """The ledger row of a message that could be read."""
    message = decoded.message
    errors = _errors(ruling)
    if isinstance(message, PartialResult):
        return LedgerRow(
            message_type=topics.PARTIAL_RESULT,
            verdict=ruling.verdict,
            batch_id=ruling.batch_id,
            batch_step_id=ruling.batch_step_id,
            worker_id=message.worker_id,
            session_id=message.session_id,
            sequence=message.sequence,
            status=message.status,
            execution_time_ms=message.execution_time_ms,
            processing_errors=errors,
            raw_text=decoded.text,
        )
    kind, milliseconds = _kind(message)
    return LedgerRow(
        message_type=kind,
        verdict=ruling.verdict,
        batch_id=ruling.batch_id,
        worker_id=message.worker_id,
        session_id=message.session_id,
        execution_time_ms=milliseconds,
        processing_errors=errors,
        raw_text=decoded.text,
    )


def undecodable_row(received: Undecodable) -> LedgerRow:
    """The ledger row of bytes that made no message: the text if it is JSON, else the beginning."""
    problem = {"reason": received.reason, "detail": received.detail, "topic": received.topic}
    as_json = received.text if received.text is not None and _is_json(received.text) else None
    return LedgerRow(
        message_type=UNDECODABLE,
        verdict=Verdict.REJECTED,
        processing_errors=orjson.dumps(problem).decode(),
        raw_text=as_json,
        raw_bytes=None if as_json is not None else received.raw[:RAW_BYTES_MAX],
    )


def poison_row(raw: bytes, error: str) -> LedgerRow:
    """The ledger row of a message over which a tick failed."""
    return LedgerRow(
        message_type=UNDECODABLE,
        verdict=Verdict.REJECTED,
        processing_errors=orjson.dumps({"reason": "tick_failed", "detail": error[:500]}).decode(),
        raw_bytes=raw[:RAW_BYTES_MAX],
    )


def _kind(message: BatchCompletion | BatchError | OldResponse) -> tuple[str, float | None]:
    if isinstance(message, BatchCompletion):
        return topics.BATCH_COMPLETION, message.total_execution_time_ms
    if isinstance(message, BatchError):
        return topics.BATCH_ERROR, None
    return topics.RESULTS, None


def _errors(ruling: Ruling) -> str | None:
    return orjson.dumps({"reason": ruling.reason}).decode() if ruling.reason else None


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
