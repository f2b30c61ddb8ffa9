"""Frames to messages and back. Limits come before parsing; whatever arrives, the answer is a value.

Source of the rules: docs/PROTOCOL.md, section "Bad input".
"""

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import orjson

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.checks import check_text
from tasker_zmq.protocol.commands import NULL, Command
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    PartialResult,
    ResultMessage,
    StepBatch,
)

COLLECTED_BYTES_MAX: Final = 1 << 16  # smaller payloads are not worth a pause
DETAIL_CHARACTERS_MAX: Final = 400  # a sentence about a message must not be as long as the message
UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError)  # from parsers
_TOPIC = re.compile(rb"[\w.:-]{1,200}")
_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    topics.PARTIAL_RESULT: msgspec.json.Decoder(PartialResult),
    topics.BATCH_COMPLETION: msgspec.json.Decoder(BatchCompletion),
    topics.BATCH_ERROR: msgspec.json.Decoder(BatchError),
    topics.RESULTS: msgspec.json.Decoder(OldResponse),
}
_heads = {topic.encode(): topic for topic in _decoders}
_command_decoder = msgspec.json.Decoder(Command)
_payload_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_batch_decoder = msgspec.json.Decoder(StepBatch)

Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Undecodable:
    """Bytes that do not make a message, and why; `text` is the JSON part when it is text at all."""

    reason: str
    detail: str
    raw: bytes
    text: str | None = None
    topic: str | None = None


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A message with the text it was made from, to the byte."""

    message: ResultMessage
    text: str


def encode(value: object) -> bytes:
    """Any of our structs, as JSON bytes."""
    return _encoder.encode(value)


def raw(value: object) -> msgspec.Raw:
    """A struct as the `data` of a payload."""
    return msgspec.Raw(_encoder.encode(value))


def encode_frame(topic: bytes, value: object) -> bytes:
    """One data-plane frame: `topic`, which ends with a space, then JSON."""
    return topic + _encoder.encode(value)


def split_topic(frames: Sequence[bytes], frames_max: int) -> tuple[str, bytes]:
    """Topic and body of `TOPIC SPACE JSON`, in one frame or in two; raises ProtocolError."""
    if not 1 <= len(frames) <= frames_max:
        raise ProtocolError(
            "frame_count", f"{len(frames)} frames, at most {frames_max} make a message"
        )
    if len(frames) == 1:
        head, space, body = frames[0].partition(b" ")
        if not space:
            raise ProtocolError("no_topic", "no space between topic and JSON")
    else:
        head, body = frames[0].rstrip(b" "), frames[1]
    known = _heads.get(head)
    if known is not None:
        return known, body
    if not _TOPIC.fullmatch(head):
        raise ProtocolError("bad_topic", "the topic is not a short ASCII word")
    return head.decode("ascii"), body


def decode_result(frames: Sequence[bytes], limits: WireLimits) -> Decoded | Undecodable:
    """A message from the result socket; never raises."""
    topic: str | None = None
    text: str | None = None
    try:
        topic, body = split_topic(frames, limits.frames_max)
        text = check_text(body, bytes_max=limits.result_bytes_max, nesting_max=limits.nesting_max)
        message = _decoder_of(topic).decode(body)
        _check_counts(message, limits)
    except ProtocolError as error:
        return Undecodable(error.reason, error.detail, b" ".join(frames), text, topic)
    except msgspec.ValidationError as error:
        return Undecodable("invalid", _detail(error), b" ".join(frames), text, topic)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return Undecodable("not_json", _detail(error), b" ".join(frames), None, topic)
    return Decoded(message, text)


def _decoder_of(topic: str) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(topic)
    if decoder is None:
        known = ", ".join(sorted(_decoders))
        raise ProtocolError("unknown_topic", f"topic '{topic}'; known: {known}")
    return decoder


def _check_counts(message: ResultMessage, limits: WireLimits) -> None:
    entries = 0
    if isinstance(message, BatchCompletion):
        entries = len(message.step_summaries)
    elif isinstance(message, OldResponse):
        entries = len(message.results)
    if entries > limits.batch_steps_max:
        raise ProtocolError("too_many_steps", f"{entries} steps, at most {limits.batch_steps_max}")


def decode_command(frame: bytes, limits: WireLimits) -> Command:
    """The envelope of a command; raises ProtocolError."""
    check_text(frame, bytes_max=limits.command_bytes_max, nesting_max=limits.nesting_max)
    try:
        return _command_decoder.decode(frame)
    except UNREADABLE as error:
        raise _problem(error) from None


def decode_step_batch(frame: bytes, limits: WireLimits) -> StepBatch:
    """What a worker receives; raises ProtocolError."""
    _, body = split_topic([frame], 1)
    if len(body) > limits.steps_bytes_max:
        raise ProtocolError("too_large", f"{len(body)} bytes, at most {limits.steps_bytes_max}")
    try:
        return _batch_decoder.decode(body)
    except UNREADABLE as error:
        raise _problem(error) from None


def decode_data(payload_data: msgspec.Raw, kind: type[Payload]) -> Payload:
    """A command's payload as the struct that its type names; raises ProtocolError."""
    decoder = _payload_decoder(kind)
    try:
        if memoryview(payload_data).nbytes <= COLLECTED_BYTES_MAX:
            return decoder.decode(payload_data)
        with _uncollected():
            return decoder.decode(payload_data)
    except UNREADABLE as error:
        raise _problem(error) from None


def decode_if_given(given: msgspec.Raw, kind: type[Payload]) -> Payload | None:
    """A part of the envelope that may be null or left out; raises ProtocolError."""
    return None if given == NULL else decode_data(given, kind)


def _payload_decoder(kind: type[Payload]) -> msgspec.json.Decoder[Payload]:
    """Kept, for it takes longer to make than to use; there are as many as kinds of payloads.

    The hook is for floats of any value: msgspec takes 10 microseconds for one like 1e300.
    """
    found = _payload_decoders.get(kind)
    if found is None:
        found = msgspec.json.Decoder(kind, float_hook=orjson.loads)
        _payload_decoders[kind] = found
    return found


def _problem(error: Exception) -> ProtocolError:
    """What a parser raised, in the words of the protocol."""
    reason = "invalid" if isinstance(error, msgspec.ValidationError) else "not_json"
    return ProtocolError(reason, _detail(error))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Of a megabyte of lists a tenth of the time is making them; the rest is garbage collection.

    It looks at all of them again and again while they are made, and none can be garbage yet.
    """
    pause = gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


def _detail(error: Exception) -> str:
    """What the parser says; it repeats values of the message, however long."""
    said = str(error)
    return said if len(said) <= DETAIL_CHARACTERS_MAX else f"{said[:DETAIL_CHARACTERS_MAX]}..."
