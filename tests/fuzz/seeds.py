"""What fuzzing begins with: golden messages, hostile ones, floods, and the protocol's words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tasker_zmq.commands.router import ROUTES
from tasker_zmq.protocol import codec, control, topics
from tasker_zmq.protocol.commands import Command, Payload
from tests.fuzz.target import FLOOD, NEXT_FRAME, PAYLOADS
from tests.processes.corpus import COMMAND_CORPUS, RESULT_CORPUS, commands_of_all_kinds
from tests.unit.test_codec_garbage import BODY, HOSTILE, PIECES
from tests.unit.wire_strategies import STRUCTS, structs_of

VECTORS: Final = Path(__file__).resolve().parents[1] / "conformance" / "vectors"
BATCH: Final = b'steps.s {"batch_id":"b","protocol_version":"2.0","steps":[],"more":%s}'
COMMAND: Final = (
    b'{"command_type":"x","command_id":"c","audit_context":{"a":%s},"payload":{"type":"x",'
    b'"data":{"session_id":"s","worker_name":"w","system_stats":{"a":0},"limit":1}}}'
)
LONG_LISTS: Final = (
    *(b'"",', b'"a",', b"1,", b"1e100,", b"1e300,", b"1111111111111111111,", b"{},", b"[[]],"),
    b"[" * 20 + b"]" * 20 + b",",
)


def seeds() -> list[bytes]:
    """Inputs for the target; those that libFuzzer would cut stand here as floods too."""
    return list(dict.fromkeys([*_golden(), *_hostile(), *_floods()]))


def _golden() -> Iterator[bytes]:
    for path in sorted(VECTORS.glob("*.json")):
        vector = json.loads(path.read_text(encoding="utf-8"))
        frame = vector["frame"].encode()
        yield frame
        if vector["kind"] == "Command":
            yield bytes(msgspec.json.decode(frame, type=Command).payload.data)
        else:
            yield frame.replace(b" ", NEXT_FRAME, 1)


def _hostile() -> Iterator[bytes]:
    for frames, _ in RESULT_CORPUS:
        yield NEXT_FRAME.join(frames)
    for frames, _ in COMMAND_CORPUS:
        yield NEXT_FRAME.join(frames)
    for kind, request, _ in commands_of_all_kinds():
        payload = Payload(type=kind, data=codec.raw(request))
        yield codec.encode(Command(command_type=kind, command_id="c", payload=payload))


def _floods() -> Iterator[bytes]:
    """A megabyte of each in every kind of message, in a few bytes."""
    for unit in dict.fromkeys((*HOSTILE, *PIECES, *LONG_LISTS)):
        for place in (b"%s", b'"%s"', b"[%s0]", b'[1e400,"%s"]', b"[1000000000000000000,%s0]"):
            flooded = place.replace(b"%s", FLOOD + unit + FLOOD)
            yield b"partial_result " + BODY.replace(b"%s", flooded)
        flooded = b"[" + FLOOD + unit + FLOOD + b"0]"
        yield COMMAND.replace(b"%s", flooded)
        yield BATCH.replace(b"%s", flooded)


def words() -> list[bytes]:
    """What a mutation may put in: field names, topics, commands, and pieces of odd JSON."""
    kinds = [*STRUCTS, *structs_of(control), *PAYLOADS.values()]
    fields = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    return [
        *(f'"{name}":'.encode() for name in sorted(fields)),
        *(f'"{name}"'.encode() for name in (*ROUTES, *PAYLOADS)),
        *(topics.subscription(topic) for topic in (topics.STEPS, *topics.RESULT_TOPICS)),
        *HOSTILE,
        *PIECES,
        FLOOD,
        NEXT_FRAME,
    ]
