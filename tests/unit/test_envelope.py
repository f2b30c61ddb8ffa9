"""What a command carries beside its payload: made when it is asked for, and judged then."""

import pytest

from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ErrorData
from tasker_zmq.protocol.envelope import AuditContext, CoreAddress, RetryPolicy, WorkerRouting
from tasker_zmq.protocol.limits import WireLimits

SEED = (
    b'{"command_type":"ExecuteBatch","command_id":"batch_cmd_456","metadata":{"priority":"normal",'
    b'"retry_policy":{"max_attempts":3,"backoff_ms":250}},"worker_routing":{"target_worker_id":42,'
    b'"selection_strategy":"least_loaded","connection_preference":"tcp"},"audit_context":{'
    b'"batch_id":"batch_789","task_id":1001,"initiated_by":"proactive_orchestration_loop",'
    b'"processing_core_id":"core_01"},"payload":{"type":"ExecuteBatch"}}'
)


def test_the_seeds_own_envelope_is_read_field_by_field() -> None:
    command = codec.decode_command(SEED, WireLimits())
    assert codec.decode_if_given(command.worker_routing, WorkerRouting) == WorkerRouting(
        target_worker_id=42, selection_strategy="least_loaded", connection_preference="tcp"
    )
    assert codec.decode_if_given(command.audit_context, AuditContext) == AuditContext(
        batch_id="batch_789",
        task_id=1001,
        initiated_by="proactive_orchestration_loop",
        processing_core_id="core_01",
    )
    policy = codec.decode_if_given(command.metadata.retry_policy, RetryPolicy)
    assert policy == RetryPolicy(max_attempts=3, backoff_ms=250)


@pytest.mark.parametrize("given", [b"", b',"worker_routing":null'])
def test_what_is_not_given_is_none(given: bytes) -> None:
    frame = b'{"command_type":"x","command_id":"c","payload":{"type":"x"}%s}' % given
    command = codec.decode_command(frame, WireLimits())
    assert codec.decode_if_given(command.worker_routing, WorkerRouting) is None


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        (b'{"max_attempts":0}', "max_attempts"),
        (b'{"max_attempts":"3"}', "max_attempts"),
        (b'{"backoff_ms":0}', "backoff_ms"),
        (b'{"backoff_ms":99999999999}', "backoff_ms"),
        (b'{"backoff_multiplier":0.5}', "backoff_multiplier"),
        (b"[3]", "object"),
    ],
)
def test_a_retry_policy_that_nobody_could_obey_is_refused_with_its_place(
    policy: bytes, place: str
) -> None:
    frame = (
        b'{"command_type":"x","command_id":"c","metadata":{"retry_policy":%s},'
        b'"payload":{"type":"x"}}' % policy
    )
    command = codec.decode_command(frame, WireLimits())
    with pytest.raises(ProtocolError, match=place):
        codec.decode_if_given(command.metadata.retry_policy, RetryPolicy)


def test_a_refusal_names_another_core_only_when_there_is_one() -> None:
    assert codec.encode(ErrorData(code="a", message="b")) == b'{"code":"a","message":"b","hint":""}'
    there = CoreAddress(core_id="core-2", commands="tcp://10.0.0.2:5557")
    told = codec.raw(ErrorData(code="elsewhere", message="b", core=there))
    assert codec.decode_data(told, ErrorData).core == there
