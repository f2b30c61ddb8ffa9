"""Frames to messages and back. Limits come before parsing; whatever arrives, the answer is a value.

Source of the rules: docs/PROTOCOL.md, section "Bad input".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.commands import Command
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    PartialResult,
    ResultMessage,
    StepBatch,
)

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MAYBE_LONG = re.compile(rb"\d{19}")
_LONG_DIGITS = re.compile(rb"(?<![\d.])-?\d{19,}(?![\d.eE])")
_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    topics.PARTIAL_RESULT: msgspec.json.Decoder(PartialResult),
    topics.BATCH_COMPLETION: msgspec.json.Decoder(BatchCompletion),
    topics.BATCH_ERROR: msgspec.json.Decoder(BatchError),
    topics.RESULTS: msgspec.json.Decoder(OldResponse),
}
_command_decoder = msgspec.json.Decoder(Command)
_batch_decoder = msgspec.json.Decoder(StepBatch)

Data = TypeVar("Data")


@dataclass(frozen=True)
class Undecodable:
    """Bytes that do not make a message, and why; `text` is the JSON part when it is text at all."""

    reason: str
    detail: str
    raw: bytes
    text: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Decoded:
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


def check_text(body: bytes, *, bytes_max: int, nesting_max: int) -> str:
    """`body` as text, if it may be parsed at all; raises ProtocolError."""
    if len(body) > bytes_max:
        raise ProtocolError("too_large", f"{len(body)} bytes, at most {bytes_max} are read")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("not_utf8", f"byte {error.start} is not UTF-8") from None
    if "\x00" in text:
        raise ProtocolError("nul_byte", "a NUL byte stands in the text")
    if nesting(body, nesting_max) > nesting_max:
        raise ProtocolError("too_deep", f"nested deeper than {nesting_max}")
    _refuse_odd_values(body, text)
    return text


def nesting(body: bytes, enough: int) -> int:
    """How deep brackets nest outside strings; a cheap upper bound when that is at most `enough`."""
    bound = body.count(b"[") + body.count(b"{")
    if bound <= enough:
        return bound
    depth = deepest = 0
    for byte in _STRING.sub(b"", body):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _refuse_odd_values(body: bytes, text: str) -> None:
    """Integers beyond 64 bits and lone surrogates have no agreed meaning between languages."""
    if _MAYBE_LONG.search(body):
        for match in _LONG_DIGITS.finditer(_STRING.sub(b'""', body)):
            digits = match.group()
            if len(digits) > 20 or not INT64_MIN <= int(digits) <= INT64_MAX:
                raise ProtocolError("huge_integer", f"{digits[:24].decode()} is beyond 64 bits")
    if "\\u" in text and _LONE_SURROGATE.search(text):
        raise ProtocolError("lone_surrogate", "half of a surrogate pair stands alone in a string")


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
    if not head.isascii() or len(head) > 200:
        raise ProtocolError("bad_topic", "the topic is not a short ASCII word")
    return head.decode("ascii"), body


def decode_result(frames: Sequence[bytes], limits: WireLimits) -> Decoded | Undecodable:
    """A message from the result socket; never raises."""
    topic: str | None = None
    text: str | None = None
    raw = b" ".join(frames)
    try:
        topic, body = split_topic(frames, limits.frames_max)
        decoder = _decoders.get(topic)
        text = check_text(body, bytes_max=limits.result_bytes_max, nesting_max=limits.nesting_max)
        if decoder is None:
            known = ", ".join(sorted(_decoders))
            raise ProtocolError("unknown_topic", f"topic '{topic}'; known: {known}")
        message = decoder.decode(body)
        _check_counts(message, limits)
    except ProtocolError as error:
        return Undecodable(error.reason, error.detail, raw, text, topic)
    except msgspec.ValidationError as error:
        return Undecodable("invalid", str(error), raw, text, topic)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return Undecodable("not_json", str(error), raw, None, topic)
    return Decoded(message, text)


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
    return _strictly(_command_decoder, frame)


def decode_step_batch(frame: bytes, limits: WireLimits) -> StepBatch:
    """What a worker receives; raises ProtocolError."""
    _, body = split_topic([frame], 1)
    if len(body) > limits.steps_bytes_max:
        raise ProtocolError("too_large", f"{len(body)} bytes, at most {limits.steps_bytes_max}")
    return _strictly(_batch_decoder, body)


def decode_data(payload_data: msgspec.Raw, kind: type[Data]) -> Data:
    """A command's payload as the struct that its type names; raises ProtocolError."""
    try:
        return msgspec.json.decode(payload_data, type=kind)
    except msgspec.ValidationError as error:
        raise ProtocolError("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError("not_json", str(error)) from None


def _strictly(decoder: msgspec.json.Decoder[Data], body: bytes) -> Data:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProtocolError("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError("not_json", str(error)) from None
