"""The golden messages: what each one means, and for ours how each is written to the byte.

A third party's worker can be tested against the same files. `ours` marks frames in the very form
in which this release writes them; the others are what older workers send.
"""

import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasker_zmq.commands.router import ROUTES, command_type
from tasker_zmq.protocol import codec, messages, topics
from tasker_zmq.protocol.codec import Decoded
from tasker_zmq.protocol.limits import WireLimits
from tests.unit.wire_strategies import PLACES

LIMITS = WireLimits()
VECTORS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json"))
}
RESULTS = [name for name, each in VECTORS.items() if each["kind"] not in {"StepBatch", "Command"}]
BATCHES = [name for name, each in VECTORS.items() if each["kind"] == "StepBatch"]
COMMANDS = [name for name, each in VECTORS.items() if each["kind"] == "Command"]
OURS = [name for name, each in VECTORS.items() if each["ours"]]
SEEDS = [name for name, each in VECTORS.items() if not each["ours"]]


def kind_of(name: str) -> type[msgspec.Struct]:
    found: Any = None
    for place in PLACES:
        found = found or getattr(place, name, None)
    assert isinstance(found, type)
    assert issubclass(found, msgspec.Struct)
    return found


def plain(value: object) -> Any:
    """A struct as the JSON values that a reader in another language would see."""
    return json.loads(codec.encode(value))


def body_of(vector: dict[str, Any]) -> str:
    frame = str(vector["frame"])
    return frame if vector["kind"] == "Command" else frame.partition(" ")[2]


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_means_what_its_vector_says_in_one_frame_and_in_two(name: str) -> None:
    vector = VECTORS[name]
    topic, _, body = vector["frame"].partition(" ")
    for frames in ([vector["frame"].encode()], [topic.encode(), body.encode()]):
        found = codec.decode_result(frames, LIMITS)
        assert isinstance(found, Decoded)
        assert type(found.message) is kind_of(vector["kind"])
        assert plain(found.message) == vector["message"]
        assert found.text == body


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_means_what_its_vector_says(name: str) -> None:
    vector = VECTORS[name]
    found = codec.decode_step_batch(vector["frame"].encode(), LIMITS)
    assert plain(found) == vector["message"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_means_what_its_vector_says(name: str) -> None:
    vector = VECTORS[name]
    found = codec.decode_command(vector["frame"].encode(), LIMITS)
    assert plain(found) == vector["message"]
    if vector["payload_kind"]:
        codec.decode_data(found.payload.data, kind_of(vector["payload_kind"]))


@pytest.mark.parametrize("name", OURS)
def test_our_messages_are_written_to_the_byte(name: str) -> None:
    vector = VECTORS[name]
    compact = json.dumps(vector["message"], ensure_ascii=False, separators=(",", ":"))
    value = msgspec.json.decode(compact, type=kind_of(vector["kind"]))
    topic = vector["frame"][: -len(body_of(vector))]
    assert codec.encode_frame(topic.encode(), value).decode() == vector["frame"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name in OURS])
def test_our_payloads_are_written_to_the_byte(name: str) -> None:
    vector = VECTORS[name]
    if not vector["payload_kind"]:
        return
    sent = codec.decode_command(vector["frame"].encode(), LIMITS).payload
    payload = codec.decode_data(sent.data, kind_of(vector["payload_kind"]))
    assert codec.encode(payload) == bytes(sent.data)


def test_every_message_and_every_command_has_a_vector() -> None:
    results = {kind.__name__ for kind in typing.get_args(messages.ResultMessage)}
    assert {VECTORS[name]["kind"] for name in RESULTS} == results
    asked = {
        command_type(VECTORS[name]["message"]["command_type"])
        for name in COMMANDS
        if not VECTORS[name]["direction"].startswith("daemon")
    }
    assert asked == set(ROUTES)
    answered = {VECTORS[name]["message"]["command_type"] for name in COMMANDS}
    free = {"Steps", "Task", "Tasks", "Health"}  # their fields are the database's and grow with it
    assert {route.reply_type for route in ROUTES.values()} - free <= answered
    assert {"ResultsRecorded", "CancelSteps", "Ping", "Shutdown", "Error"} <= answered


def test_every_result_topic_has_a_vector() -> None:
    heads = {VECTORS[name]["frame"].partition(" ")[0] for name in RESULTS}
    assert heads == set(topics.RESULT_TOPICS)


@pytest.mark.parametrize("name", SEEDS)
def test_older_forms_are_understood_though_we_would_write_them_otherwise(name: str) -> None:
    vector = VECTORS[name]
    value = msgspec.json.decode(body_of(vector), type=kind_of(vector["kind"]))
    again = codec.encode(value)
    assert again.decode() != body_of(vector)
    assert msgspec.json.decode(again, type=type(value)) == value


def test_a_batch_id_of_protocol_1_is_any_text() -> None:
    found = VECTORS["seed_partial_result"]["message"]
    assert found["batch_id"] == "batch_12345_1706039072"
    assert (found["sequence"], found["session_id"]) == (1, None)


def test_what_protocol_1_leaves_out_has_its_documented_meaning() -> None:
    completion = VECTORS["seed_batch_completion"]["message"]
    assert completion["total_execution_time_ms"] is None
    response = VECTORS["seed_results"]
    assert '"message_type"' not in response["frame"]
    assert response["message"]["results"][1]["metadata"]["retryable"] is False
    beside = VECTORS["seed_partial_result_retryable_at_the_top"]["message"]
    assert (beside["retryable"], beside["error"]["retryable"]) == (False, None)
