"""Whatever bytes arrive, the answer is a value, and finding it takes work in proportion."""

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.commands import Command
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import ResultMessage, StepBatch
from tests.unit.wire_strategies import RESULTS, values_of

LIMITS = WireLimits()
TOPICS = st.sampled_from([topics.subscription(each) for each in topics.RESULT_TOPICS])
PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"0", b"-", b"1e999", b"NaN"),
    *(b"null", b"true", b"\\u0000", b"\\ud800", b"\x00", b"\xff", b"\xed\xa0\x80", b'"a":'),
    *(b'"batch_id":"b"', b'"step_id":1', b'"status":"x"', b"9" * 25, b'"message_type":'),
]
ODD_JSON = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """Up to three places of `original` cut, replaced or repeated."""
    frame = original
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(frame)))
        end = draw(st.integers(start, min(len(frame), start + 8)))
        frame = (
            frame[:start]
            + draw(st.sampled_from([b"", *PIECES]) | st.binary(max_size=3))
            + (frame[end:] if draw(st.booleans()) else frame[start:])
        )
    return frame if draw(st.booleans()) else frame[: draw(st.integers(0, len(frame)))]


def check(frames: Sequence[bytes]) -> None:
    """A value comes out, and what was understood can also be read by those behind us."""
    found = codec.decode_result(frames, LIMITS)
    if isinstance(found, Undecodable):
        assert found.reason
        assert found.raw == b" ".join(frames)
        orjson.dumps({"detail": found.detail, "topic": found.topic})
        assert "\x00" not in found.detail + (found.topic or "")
    else:
        assert isinstance(found, Decoded)
        orjson.loads(found.text)
        assert "\x00" not in str(orjson.loads(found.text))


@given(st.lists(st.binary(max_size=60) | ODD_JSON, max_size=4))
def test_any_frames_give_a_value(frames: list[bytes]) -> None:
    check(frames)


@given(TOPICS, ODD_JSON | st.binary(max_size=60))
def test_any_body_under_a_known_topic_gives_a_value(topic: bytes, body: bytes) -> None:
    check([topic + body])
    check([topic, body])


@given(st.data(), RESULTS)
def test_a_message_that_was_damaged_gives_a_value(
    data: st.DataObject, message: ResultMessage
) -> None:
    topic = topics.subscription(str(message.__struct_config__.tag))
    check([data.draw(mutations(codec.encode_frame(topic, message)))])


@given(st.data(), values_of(Command))
def test_a_command_that_was_damaged_is_one_or_is_refused(
    data: st.DataObject, command: Command
) -> None:
    try:
        found = codec.decode_command(data.draw(mutations(codec.encode(command))), LIMITS)
    except ProtocolError:
        return
    assert isinstance(found, Command)


@given(st.data(), values_of(StepBatch))
def test_a_batch_that_was_damaged_is_one_or_is_refused(
    data: st.DataObject, batch: StepBatch
) -> None:
    frame = codec.encode_frame(topics.LEGACY_STEPS_TOPIC, batch)
    try:
        found = codec.decode_step_batch(data.draw(mutations(frame)), LIMITS)
    except ProtocolError:
        return
    assert isinstance(found, StepBatch)


BODY = b'{"batch_id":"b","step_id":1,"status":"completed","output":%s}'
HOSTILE = [
    b"[",
    b"{",
    b'{"a":',
    b"[]",
    b"[],",
    b"[[],",
    b"][",
    b'"',
    b'\\"',
    b'"\\',
    b'"[\\',
    b"\\u",
    b'"\\u',
    b"\\\\u0000",
    b'"\\ud800',
    b"1",
    b"-",
    b"-1",
    b"1e",
    b"1e111",
    b"1.1",
    b"1-",
    b"111111111111111111 ",
    b"1111111111111111111.",
    b"1e100,",
    b"\x00",
    b" ",
    b"\xf0\x9f\x98\x80",
]


@pytest.mark.timeout(60)  # what is quadratic takes hours over a megabyte
@pytest.mark.parametrize("filler", HOSTILE)
def test_a_megabyte_of_anything_is_judged_by_reading_it_a_few_times(filler: bytes) -> None:
    limits = WireLimits(result_bytes_max=2 << 20, command_bytes_max=2 << 20)
    flood = filler * ((1 << 20) // len(filler))
    for output in (
        flood,
        b'"' + flood,
        b'"' + flood + b'"',
        b"[" + flood + b"0]",
        b"[" * 70 + flood,
    ):
        body = BODY % output
        found = codec.decode_result([b"partial_result", body], limits)
        assert isinstance(found, Decoded | Undecodable)
        with pytest.raises(ProtocolError) as refused:
            codec.decode_command(body, limits)
        assert len(refused.value.detail) < 1_000


@pytest.mark.parametrize("number", [b"9" * (1 << 20) + b".5", b"0." + b"9" * (1 << 20) + b"e999"])
def test_a_number_of_a_million_digits_is_refused(number: bytes) -> None:
    limits = WireLimits(result_bytes_max=2 << 20)
    found = codec.decode_result([b"partial_result", BODY % number], limits)
    assert isinstance(found, Undecodable)
    assert found.reason == "huge_number"


def test_what_is_too_large_is_not_looked_into() -> None:
    found = codec.decode_result([b"partial_result", b"\xff" * ((1 << 20) + 1)], LIMITS)
    assert isinstance(found, Undecodable)
    assert (found.reason, found.text) == ("too_large", None)
