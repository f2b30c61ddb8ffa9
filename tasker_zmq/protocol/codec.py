"""Frames to messages and back. Limits come before parsing; whatever arrives, the answer is a value.

Source of the rules: docs/PROTOCOL.md, section "Bad input".
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from math import isinf
from typing import Any, Final, TypeVar

import msgspec
import orjson

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import topics
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

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)
INT64_DIGITS_MAX: Final = 19
DETAIL_CHARACTERS_MAX: Final = 400  # a sentence about a message must not be as long as the message
DIGITS_SHOWN: Final = 24

# Regular expressions take many times as long as these over a megabyte that was made to be slow.
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_HUGE_SHAPES = (b"0" * 19, b"0e000", b"0e+000")
_NUMBERS_ONLY = bytes(each if each in b"0123456789.eE+-" else 0x20 for each in range(256))
INT64_CHARACTERS_MAX: Final = len(str(INT64_MIN))
_LONE_SURROGATE = re.compile(  # begins with what is the same in both: that is searched for fast
    r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD].))",
    re.DOTALL,
)
_TOPIC = re.compile(rb"[\w.:-]{1,200}")
_BRACKETS = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UP_AND_DOWN = bytes.maketrans(b"()<>", bytes([1, 256 - 1, 4, 256 - 4]))  # as signed bytes
FLAT_LEVELS: Final = 3
_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    topics.PARTIAL_RESULT: msgspec.json.Decoder(PartialResult),
    topics.BATCH_COMPLETION: msgspec.json.Decoder(BatchCompletion),
    topics.BATCH_ERROR: msgspec.json.Decoder(BatchError),
    topics.RESULTS: msgspec.json.Decoder(OldResponse),
}
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
        raise ProtocolError("nul_byte", "a NUL stands in the text")
    if nesting(body, nesting_max) > nesting_max:
        raise ProtocolError("too_deep", f"nested deeper than {nesting_max}")
    _refuse_odd_values(body, text)
    return text


def nesting(body: bytes, enough: int) -> int:
    """How deep brackets nest outside strings; a cheap upper bound when that is at most `enough`."""
    bound = body.count(b"[") + body.count(b"{")
    if bound <= enough:
        return bound
    left = b"".join(_outside_strings(body)).translate(_BRACKETS, _NO_BRACKETS)
    opened = left.count(b"(")
    if opened * 2 != len(left) or b"(" * (enough + 1) in left:
        return opened  # they do not match, and it is no JSON; or they are deep in one place
    for depth in range(FLAT_LEVELS):  # the flat and the tall are each made short by one of these
        if not left:
            return depth
        left = left.replace(b"()", b"")
    steps = left.replace(b"((((", b"<").replace(b"))))", b">").translate(_UP_AND_DOWN)
    return FLAT_LEVELS + max(accumulate(memoryview(steps).cast("b")), default=0)


def _outside_strings(body: bytes) -> list[bytes]:
    """What stands before, between and after strings; of what is no JSON, anything."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return list(filter(None, body.split(b'"')[::2]))


def _refuse_odd_values(body: bytes, text: str) -> None:
    """What languages and databases do not agree on: numbers too large, halves of pairs, NUL."""
    shapes = body.translate(_DIGITS)  # a search for bytes takes a tenth of a pattern's time
    if any(shape in shapes for shape in _HUGE_SHAPES):
        _refuse_huge_numbers(b" ".join(_outside_strings(body)), long=_HUGE_SHAPES[0] in shapes)
    if "\\u" not in text:
        return
    if "\\\\" in text:
        text = text.replace("\\\\", "  ")  # an escaped backslash: what follows it is no escape
    if "\\u0000" in text:
        raise ProtocolError("nul_byte", "an escaped NUL stands in a string")
    if ("\\ud" in text or "\\uD" in text) and _LONE_SURROGATE.search(text):
        raise ProtocolError("lone_surrogate", "half of a surrogate pair stands alone in a string")


def _refuse_huge_numbers(body: bytes, *, long: bool) -> None:
    """Of a body without strings; `long`: there may be integers beyond 64 bits in it."""
    bare = body.replace(b"true", b"").replace(b"false", b"")  # an `e` is part of a number then
    numbers = bare.translate(_NUMBERS_ONLY).split()
    if long:
        for number in [each for each in numbers if len(each) >= INT64_DIGITS_MAX]:
            _refuse_beyond_64_bits(number)
    together = b",".join(numbers)
    try:
        orjson.loads(b"[" + together + b"]")
    except orjson.JSONDecodeError as error:
        _refuse_infinite(together[error.pos - 1 :].partition(b",")[0])


def _refuse_beyond_64_bits(number: bytes) -> None:
    if number.removeprefix(b"-").isdigit() and (
        len(number) > INT64_CHARACTERS_MAX or not INT64_MIN <= int(number) <= INT64_MAX
    ):
        raise ProtocolError("huge_number", f"{_shown(number)} is beyond 64 bits")


def _refuse_infinite(number: bytes) -> None:
    """What is no number at all is left to whoever parses it."""
    with suppress(ValueError):
        if isinf(float(number)):
            shown = _shown(number)
            raise ProtocolError("huge_number", f"{shown} is beyond what a double can hold")


def _shown(number: bytes) -> str:
    return number[:DIGITS_SHOWN].decode("ascii") + ("..." if len(number) > DIGITS_SHOWN else "")


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
    if not _TOPIC.fullmatch(head):
        raise ProtocolError("bad_topic", "the topic is not a short ASCII word")
    return head.decode("ascii"), body


def decode_result(frames: Sequence[bytes], limits: WireLimits) -> Decoded | Undecodable:
    """A message from the result socket; never raises."""
    topic: str | None = None
    text: str | None = None
    raw = b" ".join(frames)
    try:
        topic, body = split_topic(frames, limits.frames_max)
        text = check_text(body, bytes_max=limits.result_bytes_max, nesting_max=limits.nesting_max)
        message = _decoder_of(topic).decode(body)
        _check_counts(message, limits)
    except ProtocolError as error:
        return Undecodable(error.reason, error.detail, raw, text, topic)
    except msgspec.ValidationError as error:
        return Undecodable("invalid", _detail(error), raw, text, topic)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return Undecodable("not_json", _detail(error), raw, None, topic)
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
    with _problems_told():
        return _command_decoder.decode(frame)


def decode_step_batch(frame: bytes, limits: WireLimits) -> StepBatch:
    """What a worker receives; raises ProtocolError."""
    _, body = split_topic([frame], 1)
    if len(body) > limits.steps_bytes_max:
        raise ProtocolError("too_large", f"{len(body)} bytes, at most {limits.steps_bytes_max}")
    with _problems_told():
        return _batch_decoder.decode(body)


def decode_data(payload_data: msgspec.Raw, kind: type[Payload]) -> Payload:
    """A command's payload as the struct that its type names; raises ProtocolError."""
    with _problems_told():
        return _payload_decoder(kind).decode(payload_data)


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


@contextmanager
def _problems_told() -> Iterator[None]:
    """Whatever the parser raises, as a ProtocolError."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise ProtocolError("invalid", _detail(error)) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError("not_json", _detail(error)) from None


def _detail(error: Exception) -> str:
    """What the parser says; it repeats values of the message, however long."""
    said = str(error)
    return said if len(said) <= DETAIL_CHARACTERS_MAX else f"{said[:DETAIL_CHARACTERS_MAX]}..."
