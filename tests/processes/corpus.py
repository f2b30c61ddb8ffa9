"""Hostile frames and commands, with what must be said of each."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tasker_zmq.protocol.limits import WireLimits

RESULT_BYTES_MAX = WireLimits().result_bytes_max
STRANGE_BATCH = "0199a3c4-5d6e-7f80-9a1b-2c3d4e5f6071"


def partial(**fields: Any) -> bytes:
    said = {"batch_id": STRANGE_BATCH, "step_id": 1, "status": "completed", **fields}
    return b"partial_result " + msgspec.json.encode(said)


# Frames on the result socket with the reason that the ledger must give; None: readable, but of a
# batch that nobody sent.
RESULT_CORPUS: list[tuple[list[bytes], str | None]] = [
    ([b"partial_result "], "not_json"),
    ([b"partial_result {"], "not_json"),
    ([b"partial_result \xff\xfe\x00\x01"], "not_utf8"),
    ([b"partial_result " + b"\x00" * 100], "nul_byte"),
    ([b"partial_result null"], "invalid"),
    ([b"partial_result []"], "invalid"),
    ([b"partial_result {}"], "invalid"),
    ([b'partial_result {"message_type":"\xc3\xa9","batch_id":1}'], "invalid"),
    ([b"partial_result " + b"[" * 100_000], "too_deep"),
    ([b"partial_result " + b'{"a":' * 500 + b"1" + b"}" * 500], "too_deep"),
    ([b"partial_result " + b'"' + b'\\"' * 400_000], "not_json"),
    ([b"partial_result " + b" " * (RESULT_BYTES_MAX + 1)], "too_large"),
    ([b"batch_completion " + partial()[15:]], "invalid"),
    ([b"results []"], "invalid"),
    ([b"results ", b"\x00"], "nul_byte"),
    ([b"partial_result \x00", b"{}"], "bad_topic"),
    ([b"partial_result \xff", b"{}"], "bad_topic"),
    ([b"partial_result ", b"{}", b"{}"], "frame_count"),
    ([b"partial_result "] + [b""] * 5_000, "frame_count"),
    ([b'batch_completion {"batch_id":"b","total_steps":1e999}'], "huge_number"),
    ([partial(output=0)[:-2] + b"NaN}"], "not_json"),
    ([partial(output=0)[:-2] + b"1" * 5_000 + b"}"], "huge_number"),
    ([partial(output=0)[:-2] + b'"\\ud800"}'], "lone_surrogate"),
    ([partial(output=0)[:-2] + b'"\\u0000"}'], "nul_byte"),
    ([partial(step_id=1 << 63)], "huge_number"),
    ([partial(worker_id="x" * 100_000, status="y" * 100_000)], None),
    ([partial(step_id=-(1 << 63), sequence=(1 << 63) - 1, resend=-1)], None),
    ([partial(batch_id="batch_12345_1706039072")], None),
    ([partial(batch_id="'; DROP TABLE tasker_tasks; --", session_id="%s\\x00")], None),
    ([partial(status="done", execution_time_ms=-1e308)], None),
    ([partial(status="completed", session_id="0199a3c4-0000-7abc-8def-0123456789ab")], None),
    ([partial(error={"message": "m" * 50_000, "retry_after_seconds": 1e300})], None),
    ([b'batch_error {"batch_id":"b","error":{}}'], None),
    ([b'results {"batch_id":"b","results":[]}'], None),
]

# Frames on the command socket, behind the dealer's identity, with the code of the answer.
COMMAND_CORPUS: list[tuple[list[bytes], str]] = [
    ([b""], "not_json"),
    ([b"{"], "not_json"),
    ([b"\xff"], "not_utf8"),
    ([b"\x00"], "nul_byte"),
    ([b"null"], "invalid"),
    ([b"{}"], "invalid"),
    ([b"[" * 100_000], "too_deep"),
    ([b" " * ((1 << 20) + 1)], "too_large"),
    ([b'{"command_id":1e999}'], "huge_number"),
    ([b'{"command_id":"\\udfff"}'], "lone_surrogate"),
    ([b"one", b"two", b"three"], "not_json"),
    ([b"{}"] * 1_000, "not_json"),
]


def commands_of_all_kinds() -> Iterator[tuple[str, object, str]]:
    """Well-formed envelopes with hostile contents, and the code of the answer."""
    yield "os.system", {"command": "true"}, "unknown_command"
    yield "__class__", {}, "unknown_command"
    yield "é" * 10_000, {}, "unknown_command"
    yield "GetTask", {}, "invalid"
    yield "GetTask", {"task_id": "1; DROP TABLE tasker_tasks"}, "invalid"
    yield "GetTask", {"task_id": (1 << 63) - 1}, "not_found"
    yield "WorkerHeartbeat", {"session_id": "x" * 10_000}, "unknown_session"
    yield "RegisterWorker", {"worker_name": "../../etc/passwd"}, "invalid"
    yield "RegisterWorker", {"worker_name": "w", "handlers": ["os.system('true')"]}, "invalid"
    loud = {"max_concurrent_steps": 1 << 62}
    yield "RegisterWorker", {"worker_name": "w", "metadata": loud}, "invalid"
    old = {"worker_name": "w", "protocol_versions": ["9.9"]}
    yield "RegisterWorker", old, "unsupported_protocol"
    task = {"namespace": "tests", "name": "tripling", "version": "1.0.0"}
    yield "InitializeTask", {"task_request": {**task, "context": []}}, "invalid"
    yield "InitializeTask", {"task_request": {**task, "name": "'; --"}}, "not_found"
    yield "InitializeTasks", {"task_requests": {}}, "invalid"
    yield "InitializeTasks", {"task_requests": [task] * 1_001}, "invalid"
