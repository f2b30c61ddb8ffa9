"""Depth, numbers, surrogates and NUL: what no two readers agree on is refused, its like is not."""

import json
from collections.abc import Callable

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import checks, codec
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import PartialResult
from tests.unit.wire_strategies import JSON_VALUES, TEXT

LIMITS = WireLimits()
DIGITS = "1234567890" * 50


def with_output(output: str) -> Decoded | Undecodable:
    body = f'{{"batch_id":"b","step_id":1,"status":"completed","output":{output}}}'
    return codec.decode_result([b"partial_result", body.encode()], LIMITS)


def reason(found: Decoded | Undecodable) -> str | None:
    return found.reason if isinstance(found, Undecodable) else None


@pytest.mark.parametrize(
    "output",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "{1:2}",
        "{null:2}",
        "{'a':1}",
        "{a:1}",
        "[1,]",
        "[1 2]",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "--1",
        "tru",
        "",
        '"\\q"',
        '"\\u12"',
        '"\n"',
        '"\x01"',
        '"open',
        "[}",
        "1}{",
    ],
)
def test_what_is_nearly_json_is_not_json(output: str) -> None:
    found = with_output(output)
    assert reason(found) == "not_json"
    assert isinstance(found, Undecodable)
    assert found.text is None


@pytest.mark.parametrize("brackets", ["[]", '{"a":}'], ids=["arrays", "objects"])
def test_values_nest_sixty_four_deep_and_no_deeper(brackets: str) -> None:
    opening, closing = brackets[:-1], brackets[-1]

    def nested(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    assert reason(with_output(nested(63))) is None  # the message itself is one deep
    assert reason(with_output(nested(64))) == "too_deep"
    assert reason(with_output(nested(5_000))) == "too_deep"


@pytest.mark.parametrize(
    "output",
    [
        "[" + ",".join(["[]"] * 500) + "]",
        '"' + "[" * 500 + '"',
        '"' + '\\"[' * 500 + '"',
        '{"' + "{" * 500 + '":"\\\\","a":[[1]]}',
    ],
)
def test_brackets_side_by_side_or_in_strings_are_not_deep(output: str) -> None:
    assert reason(with_output(output)) is None


@given(JSON_VALUES, st.integers(0, 6))
def test_nesting_is_what_a_walk_through_the_value_counts(value: object, enough: int) -> None:
    def depth(part: object) -> int:
        parts = list(part.values()) if isinstance(part, dict) else part
        return 1 + max(map(depth, parts), default=0) if isinstance(parts, list) else 0

    found = checks.nesting(orjson.dumps(value), enough)
    if depth(value) > enough:
        assert found > enough
    else:
        assert depth(value) <= found
        body = orjson.dumps(value)
        assert found <= max(enough, body.count(b"[") + body.count(b"{"))
        assert found <= enough or found == depth(value)


@pytest.mark.parametrize(
    "number",
    [
        "9223372036854775807",
        "-9223372036854775808",
        "1234567890123456789.5",
        "0.1234567890123456789012345",
        "1e308",
        "1.5e+300",
        "-1E308",
        "1e-400",
        "1e-99999",
        "9" * 300 + ".0",
        "0.0001e310",
        f'"{DIGITS}"',
        '"1e999 , 1e999"',
        '{"1e999":"9e999"}',
        f'{{"{DIGITS}":1}}',
        '"0190e123-e123 1e4000"',
    ],
)
def test_numbers_that_every_reader_can_hold_are_taken(number: str) -> None:
    assert reason(with_output(number)) is None
    assert reason(with_output(f'[0, {number} ,{{"a":{number}}}]')) is None


@pytest.mark.parametrize(
    "number",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        DIGITS,
        f"-{DIGITS}",
        "1e309",
        "-1e309",
        "1E+400",
        "1e99999999",
        "1.5e1000000000000000000000",
        "9" * 400 + ".0",
        "9" * 20 + "e300",
    ],
)
def test_numbers_that_some_reader_cannot_hold_are_refused(number: str) -> None:
    for output in (number, f"[{number}]", f'{{"a":{number}}}', f"[1,\t{number}\n]"):
        found = with_output(output)
        assert reason(found) == "huge_number"
        assert isinstance(found, Undecodable)
        assert len(found.detail) < 100


@given(st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
def test_integers_are_taken_if_and_only_if_they_have_64_bits(numbers: list[float]) -> None:
    fit = all(
        checks.INT64_MIN <= number <= checks.INT64_MAX for number in numbers if type(number) is int
    )
    expected = None if fit else "huge_number"
    assert reason(with_output(json.dumps(numbers))) == expected


@given(st.text(st.sampled_from("\\\"u08dDcCfFaA'/ x\U0001f600"), max_size=30))
def test_any_text_that_was_written_as_json_is_taken(text: str) -> None:
    for ascii_only in (True, False):
        assert reason(with_output(json.dumps({text: text}, ensure_ascii=ascii_only))) is None


@given(st.lists(st.sampled_from(["\\\\", "\\ud83d", "\\ude00", "\\u0041", "d800", "x"])))
def test_escaped_surrogates_are_taken_if_and_only_if_they_are_pairs(parts: list[str]) -> None:
    """Judged by Python's own reader, which tells what the string really holds."""
    written = '"' + "".join(parts) + '"'
    lone = any("\ud800" <= each <= "\udfff" for each in json.loads(written))
    assert reason(with_output(written)) == ("lone_surrogate" if lone else None)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (r'"\\ud800"', None),  # a backslash, then the letters ud800
        (r'"\\\ud800"', "lone_surrogate"),  # a backslash, then half of a pair
        (r'"\\\\ud800"', None),
        (r'"\ud800"', "lone_surrogate"),
        (r'"\udc00"', "lone_surrogate"),
        (r'"\uDBFF\uDFFF"', None),
        (r'"\uDC00\uD800"', "lone_surrogate"),
        (r'"\ud800\\udc00"', "lone_surrogate"),
        (r'"\\ud800\udc00"', "lone_surrogate"),
        (r'"\ud83d\ude00\ude00"', "lone_surrogate"),
        (r'{"\ud800":1}', "lone_surrogate"),
        (r'"\ue000\ud7ff"', None),
    ],
)
def test_an_escaped_backslash_hides_what_follows_it(output: str, expected: str | None) -> None:
    assert reason(with_output(output)) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('"\x00"', "nul_byte"),
        ("\x00", "nul_byte"),
        (r'"\u0000"', "nul_byte"),
        (r'{"\u0000":1}', "nul_byte"),
        (r'"\\\u0000"', "nul_byte"),
        (r'"\\u0000"', None),
        (r'"\u0001"', None),
        ('"u0000"', None),
    ],
)
def test_nul_is_refused_bare_and_escaped(output: str, expected: str | None) -> None:
    assert reason(with_output(output)) == expected


@pytest.mark.parametrize(
    "body",
    [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"'],
    ids=["no byte", "cut off", "half of a pair", "long NUL", "beyond Unicode", "two of three"],
)
def test_bytes_that_are_not_utf8_are_refused(body: bytes) -> None:
    found = codec.decode_result([b"partial_result", b'{"output":' + body + b"}"], LIMITS)
    assert reason(found) == "not_utf8"


@pytest.mark.parametrize(
    "decode",
    [
        lambda body: codec.decode_command(body, LIMITS),
        lambda body: codec.decode_data(msgspec.Raw(body), PartialResult),
        lambda body: codec.decode_step_batch(b"steps " + body, LIMITS),
    ],
    ids=["command", "data", "batch"],
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'"\xff"', b"[" * 100_000])
def test_the_other_decoders_raise_protocol_errors_only(
    decode: Callable[[bytes], object], body: bytes
) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"command_id":"\\ud800"}', "lone_surrogate"),
        (b'{"command_id":"\\u0000"}', "nul_byte"),
        (b'{"command_id":1e999}', "huge_number"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b'{"command_id":"\xff"}', "not_utf8"),
    ],
)
def test_commands_are_checked_as_results_are(body: bytes, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        codec.decode_command(body, LIMITS)


@given(TEXT)
def test_a_check_gives_the_text_itself(text: str) -> None:
    body = json.dumps(text, ensure_ascii=False)
    assert checks.check_text(body.encode(), bytes_max=1_000, nesting_max=1) == body
