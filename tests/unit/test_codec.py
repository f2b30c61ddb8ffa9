"""What goes onto the wire comes back from it; both framings; the steps and command decoders."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.commands import Command, GetTask, Payload
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    OldResponse,
    PartialResult,
    ResultMessage,
    StepBatch,
)
from tests.unit.wire_strategies import RESULTS, STRUCTS, values_of

LIMITS = WireLimits()
PARTIAL = {
    "message_type": "partial_result",
    "batch_id": "b",
    "step_id": 1,
    "status": "completed",
}


def topic_of(message: msgspec.Struct) -> bytes:
    return topics.subscription(str(message.__struct_config__.tag))


def partial(**fields: Any) -> list[bytes]:
    return [b"partial_result " + msgspec.json.encode({**PARTIAL, **fields})]


def decoded(frames: list[bytes]) -> ResultMessage:
    found = codec.decode_result(frames, LIMITS)
    assert isinstance(found, Decoded), found
    return found.message


def refusal(frames: list[bytes], limits: WireLimits = LIMITS) -> Undecodable:
    found = codec.decode_result(frames, limits)
    assert isinstance(found, Undecodable), found
    return found


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@given(st.data())
def test_every_struct_comes_back_as_it_went(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    value = data.draw(values_of(kind))
    assert codec.decode_data(codec.raw(value), kind) == value


@given(RESULTS)
def test_a_result_is_the_same_in_one_frame_and_in_two(message: ResultMessage) -> None:
    topic, body = topic_of(message), codec.encode(message)
    one = codec.decode_result([codec.encode_frame(topic, message)], LIMITS)
    assert one == Decoded(message, body.decode())
    for head in (topic, topic.strip()):
        assert codec.decode_result([head, body], LIMITS) == one


@given(values_of(Command))
def test_a_command_comes_back_as_it_went(command: Command) -> None:
    assert codec.decode_command(codec.encode(command), LIMITS) == command


@given(values_of(StepBatch))
def test_a_batch_comes_back_as_it_went(batch: StepBatch) -> None:
    for topic in (topics.LEGACY_STEPS_TOPIC, b"steps.0190c8f2-7c6e-7d1a-9d1c-000000000001 "):
        assert codec.decode_step_batch(codec.encode_frame(topic, batch), LIMITS) == batch


@pytest.mark.parametrize(
    "output",
    [
        '{"b":1,"a":2}',
        "1.10",
        "1E2",
        '"\\u00e9\\/"',
        '{ "spaced" : [ 1 , 2 ] }',
        "12345678901234567",
        '{"a":1,"a":2}',
    ],
)
def test_what_only_travels_through_is_kept_to_the_byte(output: str) -> None:
    body = f'{{"batch_id":"b","step_id":1,"status":"completed","output":{output}}}'
    message = decoded([b"partial_result", body.encode()])
    assert isinstance(message, PartialResult)
    assert bytes(message.output).decode() == output
    assert bytes(msgspec.json.encode(message)).decode().count(output) == 1


def test_fields_that_nobody_knows_are_passed_over() -> None:
    message = decoded(partial(colour="blue", nested={"deep": [1]}))
    assert message == decoded(partial())


def test_a_message_may_leave_its_type_to_the_topic() -> None:
    body = b'{"batch_id":"b","step_id":1,"status":"completed"}'
    assert decoded([b"partial_result " + body]) == decoded(partial())


def test_of_equal_keys_the_last_one_counts_as_in_every_reader_of_the_ledger() -> None:
    message = decoded(
        [b'partial_result {"batch_id":"b","step_id":1,"step_id":2,"status":"failed"}']
    )
    assert isinstance(message, PartialResult)
    assert message.step_id == 2


@pytest.mark.parametrize("word", ["completed", "done", "", "FAILED"])
def test_a_status_is_any_word_and_judged_later(word: str) -> None:
    message = decoded(partial(status=word))
    assert isinstance(message, PartialResult)
    assert message.status == word


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"step_id": "1"}, "$.step_id"),
        ({"step_id": 1.0}, "$.step_id"),
        ({"step_id": True}, "$.step_id"),
        ({"step_id": None}, "$.step_id"),
        ({"batch_id": 5}, "$.batch_id"),
        ({"status": None}, "$.status"),
        ({"error": "broken"}, "$.error"),
        ({"error": {"message": 1}}, "$.error.message"),
        ({"error": {"backtrace": "line"}}, "$.error.backtrace"),
        ({"error": {"retryable": "no"}}, "$.error.retryable"),
        ({"sequence": "1"}, "$.sequence"),
        ({"execution_time_ms": "12"}, "$.execution_time_ms"),
        ({"message_type": "batch_completion"}, "$.message_type"),
        ({"message_type": 7}, "$.message_type"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(changes: dict[str, Any], place: str) -> None:
    found = refusal(partial(**changes))
    assert (found.reason, found.topic) == ("invalid", "partial_result")
    assert place in found.detail


@pytest.mark.parametrize("missing", ["batch_id", "step_id", "status"])
def test_a_missing_field_is_refused_by_its_name(missing: str) -> None:
    fields = {name: value for name, value in PARTIAL.items() if name != missing}
    found = refusal([b"partial_result " + msgspec.json.encode(fields)])
    assert found.reason == "invalid"
    assert missing in found.detail


def test_a_sentence_about_a_message_is_short_however_long_its_values_are() -> None:
    found = refusal(partial(message_type="x" * 100_000))
    assert len(found.detail) < 500


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b""], "no_topic"),
        ([b"partial_result"], "no_topic"),
        ([b"partial_result{}"], "no_topic"),
        ([b" {}"], "bad_topic"),
        ([b"", b"{}"], "bad_topic"),
        ([b"partial_result\x00", b"{}"], "bad_topic"),
        ([b"partial_result \x00", b"{}"], "bad_topic"),
        ([b"partial\nresult", b"{}"], "bad_topic"),
        (["pärtial_result".encode(), b"{}"], "bad_topic"),
        ([b"x" * 201, b"{}"], "bad_topic"),
        ([b"steps {}"], "unknown_topic"),
        ([b"partial_results {}"], "unknown_topic"),
        ([b"partial_result", b"{}", b""], "frame_count"),
        ([b"partial_result", b"{}", b"{}", b"{}"], "frame_count"),
        ([], "frame_count"),
    ],
)
def test_what_is_not_a_topic_and_json_is_refused(frames: list[bytes], reason: str) -> None:
    found = refusal(frames)
    assert found.reason == reason
    assert found.raw == b" ".join(frames)


def summaries(number: int) -> list[dict[str, Any]]:
    return [{"step_id": each, "final_status": "completed"} for each in range(number)]


def test_a_completion_tells_of_a_thousand_steps_and_no_more() -> None:
    def completion(number: int) -> list[bytes]:
        counts = {"total_steps": number, "completed_steps": number, "failed_steps": 0}
        message = {"batch_id": "b", **counts, "step_summaries": summaries(number)}
        return [b"batch_completion " + msgspec.json.encode(message)]

    message = decoded(completion(1_000))
    assert isinstance(message, BatchCompletion)
    assert len(message.step_summaries) == 1_000
    assert refusal(completion(1_001)).reason == "too_many_steps"


def test_an_old_response_tells_of_a_thousand_steps_and_no_more() -> None:
    def response(number: int) -> list[bytes]:
        results = [{"step_id": each, "status": "completed"} for each in range(number)]
        return [b"results " + msgspec.json.encode({"batch_id": "b", "results": results})]

    message = decoded(response(1_000))
    assert isinstance(message, OldResponse)
    assert len(message.results) == 1_000
    assert refusal(response(1_001)).reason == "too_many_steps"


def test_size_is_counted_in_bytes_to_the_byte() -> None:
    frame = partial(output="é" * 100)
    size = len(frame[0]) - len(b"partial_result ")
    assert isinstance(codec.decode_result(frame, WireLimits(result_bytes_max=size)), Decoded)
    assert refusal(frame, WireLimits(result_bytes_max=size - 1)).reason == "too_large"


def test_commands_and_batches_have_sizes_of_their_own() -> None:
    payload = Payload(type="GetTask", data=codec.raw(GetTask(task_id=TaskId(1))))
    command = codec.encode(Command(command_type="GetTask", command_id="1", payload=payload))
    codec.decode_command(command, WireLimits(command_bytes_max=len(command)))
    with pytest.raises(ProtocolError, match="too_large"):
        codec.decode_command(command, WireLimits(command_bytes_max=len(command) - 1))
    batch = b'{"batch_id":"b","protocol_version":"2.0","steps":[]}'
    codec.decode_step_batch(b"steps " + batch, WireLimits(steps_bytes_max=len(batch)))
    with pytest.raises(ProtocolError, match="too_large"):
        codec.decode_step_batch(b"steps " + batch, WireLimits(steps_bytes_max=len(batch) - 1))
