"""What `make fuzz` calls, without guidance; and what it found that took too long."""

import gc
import json
import logging
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from math import isinf
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.commands.router import ROUTES
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import checks, codec
from tasker_zmq.protocol.commands import RegisterWorker, WorkerHeartbeat
from tasker_zmq.protocol.limits import WireLimits
from tests.fuzz.seeds import seeds, words
from tests.fuzz.target import (
    FLOOD,
    FLOOD_BYTES,
    NEXT_FRAME,
    PAYLOADS,
    Target,
    TooSlowError,
    frames_of,
)
from tests.unit.test_codec_garbage import mutations

TARGET = Target(None)
SEEDS = [each for each in seeds() if FLOOD not in each and len(each) < 4_096]
FLOODS = [each for each in seeds() if FLOOD in each]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """A worker logs each batch that it does not understand."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_all_that_fuzzing_begins_with_gives_a_value_or_a_refusal() -> None:
    assert len(SEEDS) > 100
    for each in seeds():
        if FLOOD not in each:
            TARGET(each)


def test_floods_give_a_value_or_a_refusal() -> None:
    for each in FLOODS[::8]:  # `make fuzz` begins with all of them
        TARGET(each)


@given(st.data(), st.sampled_from(SEEDS))
def test_what_was_damaged_gives_a_value_or_a_refusal(data: st.DataObject, seed: bytes) -> None:
    TARGET(data.draw(mutations(seed)))


@given(st.lists(st.sampled_from(words()) | st.binary(max_size=4), max_size=20).map(b"".join))
def test_words_of_the_protocol_in_any_order_give_a_value_or_a_refusal(found: bytes) -> None:
    TARGET(found.replace(FLOOD, b""))


def test_every_payload_of_the_wire_is_decoded() -> None:
    assert {route.payload for route in ROUTES.values()} <= set(PAYLOADS.values())
    assert {"WorkerRegistered", "ResultsRecorded", "StartConfirmed"} <= set(PAYLOADS)


def test_an_input_is_a_message_in_frames_with_what_floods_it_repeated() -> None:
    assert frames_of(b"a" + NEXT_FRAME + b"b") == (b"a", b"b")
    (flooded,) = frames_of(b"[" + FLOOD + b"1," + FLOOD + b"0]")
    assert flooded.startswith(b"[1,1,")
    assert flooded.endswith(b"1,0]")
    assert FLOOD_BYTES - 2 <= len(flooded) <= FLOOD_BYTES
    assert frames_of(FLOOD + FLOOD) == (FLOOD + FLOOD,)


class Crashing:
    """A frame that breaks whoever reads it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self) -> Any:
        raise self._error


def test_what_is_no_refusal_is_a_finding() -> None:
    with pytest.raises(OverflowError):
        TARGET._value("any", Crashing(OverflowError()))


def test_what_takes_longer_than_it_may_is_a_finding() -> None:
    def long() -> object:
        return json.loads("[" + "1," * 10_000 + "1]")

    with pytest.raises(TooSlowError, match="long took"):
        Target(0.0)._value("long", long)
    assert Target(60.0)._value("long", long)


LONG = st.sampled_from([10**18, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**19, 10**400])
NUMBERS = LONG.map(str) | st.sampled_from(
    [
        "0",
        "1e308",
        "1e309",
        "-1E+400",
        "0e999",
        "1e-999",
        "9" * 400 + "e-300",
        "0." + "0" * 20 + "1",
    ]
)
LEAVES = NUMBERS | st.sampled_from(
    [
        "true",
        "false",
        "null",
        '""',
        '"[["',
        r'"\\"',
        r'"\"[["',
        r'"\\\"]"',
        '"1e999"',
        '"a"',
        "[]",
        "{}",
    ]
)
JSON_TEXTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map(lambda found: f"[{','.join(found)}]")
        | inner.map(lambda found: f'{{"a\\\\":{found},"\\"":{found}}}')
        | inner.map(lambda found: "[" * 9 + found + "]" * 9)
    ),
    max_leaves=12,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def expected_reason(text: str, nesting_max: int) -> str | None:
    """As a slow and simple reader finds it."""
    huge: list[str] = []

    def integer(word: str) -> int:
        if not -(2**63) <= int(word) < 2**63:
            huge.append(word)
        return 0

    def number(word: str) -> float:
        if isinf(float(word)):
            huge.append(word)
        return 0.0

    value = json.loads(text, parse_int=integer, parse_float=number)
    if depth(value) > nesting_max:
        return "too_deep"
    return "huge_number" if huge else None


@given(JSON_TEXTS, st.integers(1, 20))
def test_depth_and_huge_numbers_are_found_as_a_simple_reader_finds_them(
    text: str, nesting_max: int
) -> None:
    try:
        checks.check_text(text.encode(), bytes_max=100_000, nesting_max=nesting_max)
        found = None
    except ProtocolError as error:
        found = error.reason
    assert found == expected_reason(text, nesting_max)


@given(JSON_TEXTS, st.integers(0, 40), st.sampled_from(["1,", '"1",', "[],", "1e5,"]))
def test_numbers_are_found_where_one_stretch_ends_and_the_next_begins(
    text: str, left: int, filler: str
) -> None:
    before = filler * (checks.STRETCH_BYTES // len(filler)) + filler
    body = f"[{before[: -len(filler) * (left // len(filler) + 1)]}{text},{before}{text},0]"
    try:
        checks.check_text(body.encode(), bytes_max=100_000, nesting_max=100)
        found = None
    except ProtocolError as error:
        found = error.reason
    assert found == expected_reason(body, 100)


@pytest.mark.parametrize(
    "unit",
    [
        "1,",
        "1," * 8_000 + "1000000000000000000,1e300,",
        "9223372036854775807,",
        "-9223372036854775808,",
        "1.9999999999999999999,",
        "1e300,",
        '"",',
        '{"":1},',
        "[[[[]]]],",
        '"\\u00e9",',
    ],
)
def test_a_megabyte_made_to_be_slow_is_not_taken_to_pieces_as_a_whole(unit: str) -> None:
    """Half a million pieces take 30 megabytes, and several times as long as short lists of them."""
    text = f"[{unit * (FLOOD_BYTES // len(unit) - 10)}1000000000000000000,1e300]"
    body = text.encode()
    tracemalloc.start()
    try:
        checks.check_text(body, bytes_max=len(body), nesting_max=64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(body), f"{peak / len(body):.1f} times the body"


@pytest.mark.parametrize("depth_of_each", [1, 3, 4, 31, 64])
def test_many_values_are_as_deep_as_the_deepest(depth_of_each: int) -> None:
    one = b"[" * depth_of_each + b"]" * depth_of_each
    body = b"[" + b",".join([one] * 100) + b"]"
    assert checks.nesting(body, 100) == depth_of_each + 1


def test_floats_of_any_value_are_read_by_the_faster_of_two_readers() -> None:
    """A megabyte of 1e300 costs msgspec two seconds, and orjson a hundredth."""
    for name, kind in PAYLOADS.items():
        assert codec._payload_decoder(kind).float_hook is orjson.loads, name
    told = b'{"worker_name":"w","connection_info":{"a":[1e300,1.5,-2.5e-7,{"b":0.1}]}}'
    found = codec.decode_data(msgspec.Raw(told), RegisterWorker)
    assert found.connection_info == {"a": [1e300, 1.5, -2.5e-7, {"b": 0.1}]}


@pytest.mark.parametrize("damage", ["", "]"], ids=["legal", "damaged"])
def test_no_garbage_is_looked_for_while_a_large_payload_is_read(damage: str) -> None:
    """Of a megabyte of lists it takes nine tenths of the time."""
    lists = "[]," * (FLOOD_BYTES // 4)
    told = f'{{"worker_name":"w","connection_info":{{"a":[{lists}0]}}}}{damage}'.encode()
    phases: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        phases.append(phase)

    gc.callbacks.append(note)
    try:
        with pytest.raises(ProtocolError) if damage else nullcontext():
            codec.decode_data(msgspec.Raw(told), RegisterWorker)
    finally:
        gc.callbacks.remove(note)
    assert len(phases) < 10
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    told = b'{"worker_name":"w","connection_info":{"a":"%s"}}' % (b"a" * FLOOD_BYTES)
    gc.disable()
    try:
        codec.decode_data(msgspec.Raw(told), RegisterWorker)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_nobody_reads_is_kept_as_it_came_and_not_looked_into() -> None:
    """A megabyte of lists takes half a second to make."""
    text = b'{"a": [ [], {}, 1e300 ]}'
    found = codec.decode_command(
        b'{"command_type":"x","command_id":"c","worker_routing":%s,"audit_context":%s,'
        b'"metadata":{"retry_policy":%s},"payload":{"type":"x"}}' % (text, text, text),
        WireLimits(),
    )
    kept = (found.worker_routing, found.audit_context, found.metadata.retry_policy)
    assert [bytes(each) for each in kept] == [text] * 3
    told = b'{"session_id":"s","system_stats":%s}' % text
    beat = codec.decode_data(msgspec.Raw(told), WorkerHeartbeat)
    assert bytes(beat.system_stats) == text
