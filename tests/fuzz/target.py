"""Bytes into every decoder that faces the wire: a value comes out, or the refusal that is awaited.

`make fuzz` and `make test` share it. An input is the frames of one message, NEXT_FRAME between two.
What stands between two FLOOD is repeated until the message is as long as a message may be.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, thread_time
from typing import Any, Final

import msgspec
import orjson

from tasker_zmq.commands.router import ROUTES
from tasker_zmq.errors import ProtocolError
from tasker_zmq.pipeline import ledger
from tasker_zmq.protocol import checks, codec, commands, control, management, tasks
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import BatchError, StepBatch
from tasker_zmq.worker import intake

NEXT_FRAME: Final = b"\xff|\xff"  # neither stands in a message that is UTF-8
FLOOD: Final = b"\xff*\xff"
LIMITS: Final = WireLimits()
FLOOD_BYTES: Final = LIMITS.result_bytes_max
TRIES: Final = 4

PAYLOADS: Final[Mapping[str, type[Any]]] = {
    **{name: route.payload for name, route in ROUTES.items()},
    **{
        kind.__name__: kind
        for kind in (
            commands.WorkerRegistered,
            commands.HeartbeatReceived,
            commands.StartConfirmed,
            commands.ResultsRecorded,
            commands.CancelSteps,
            commands.Ping,
            tasks.TaskInitialized,
            commands.TemplatesPublished,
            control.Controlled,
            management.Called,
            management.Shutdown,
            management.SystemManaged,
            management.WorkerShutdown,
            commands.ErrorData,
        )
    },
}


class TooSlowError(Exception):
    """An input that a decoder looks at for longer than it may, however often it is asked."""


def frames_of(given: bytes) -> tuple[bytes, ...]:
    """The frames that an input stands for."""
    head, *rest = given.split(FLOOD, 2)
    if len(rest) == 2 and rest[0]:
        unit, tail = rest
        given = head + unit * ((FLOOD_BYTES - len(head) - len(tail)) // len(unit)) + tail
    return tuple(given.split(NEXT_FRAME))


class Target:
    """Called with an input; raises what a decoder must not, and TooSlowError above `seconds_max`.

    None: it takes as long as it takes.
    """

    def __init__(self, seconds_max: float | None) -> None:
        self._seconds_max = seconds_max

    def __call__(self, given: bytes) -> None:
        frames = frames_of(given)
        if FLOOD not in given:
            self._result(frames)
            self._command(frames[-1])
            self._batch(frames[0])
        elif given.startswith(b"{"):
            self._command(frames[-1])
        elif given.startswith(b"steps"):
            self._batch(frames[0])
        else:
            self._result(frames)

    def _result(self, frames: Sequence[bytes]) -> None:
        """What the tick makes of it: a row of the ledger, of which any reader knows the JSON."""
        found = self._value("decode_result", lambda: codec.decode_result(frames, LIMITS))
        if isinstance(found, Undecodable):
            assert found.raw == b" ".join(frames)
            ledger.undecodable_row(found)
        else:
            assert isinstance(found, Decoded)
            orjson.loads(found.text)
            codec.encode(found.message)

    def _command(self, frame: bytes) -> None:
        """The envelope and its data as each payload; and the frame as data without an envelope."""
        command = self._value("decode_command", lambda: codec.decode_command(frame, LIMITS))
        if command is not None:
            codec.encode(command)
            self._payloads(command.payload.data)
        elif self._value("check_text", lambda: _checked(frame)) is not None:
            self._payloads(msgspec.Raw(frame))

    def _payloads(self, given: msgspec.Raw) -> None:
        for name, kind in PAYLOADS.items():
            found = self._value(name, lambda kind=kind: codec.decode_data(given, kind))  # type: ignore[misc]
            if found is not None:
                codec.encode(found)

    def _batch(self, frame: bytes) -> None:
        """What a worker makes of it, to be run or to be answered."""
        self._value("decode_step_batch", lambda: codec.decode_step_batch(frame, LIMITS))
        found = self._value(
            "understand", lambda: intake.understand(frame, limits=LIMITS, worker_id="w")
        )
        assert found is None or isinstance(found, StepBatch | BatchError)
        if isinstance(found, BatchError):
            codec.encode(found)

    def _value(self, name: str, decode: Callable[[], Any]) -> Any:
        """What `decode` gives, None for a refusal."""
        found, seconds = _timed(decode, perf_counter)
        if self._seconds_max is not None and seconds > self._seconds_max:
            # The machine may have paused, and others may keep it busy: now only our time counts.
            tries = (_timed(decode, thread_time)[1] for _ in range(1, TRIES))
            seconds = next((each for each in tries if each <= self._seconds_max), seconds)
            if seconds > self._seconds_max:
                raise TooSlowError(f"{name} took {seconds * 1_000:.0f} ms, {TRIES} times")
        return found


class Stopwatch(Target):
    """Notes how long each decoder took for each input: seconds, decoder, input."""

    def __init__(self) -> None:
        super().__init__(None)
        self.found: list[tuple[float, str, bytes]] = []
        self._given = b""

    def __call__(self, given: bytes) -> None:
        self._given = given
        super().__call__(given)

    def _value(self, name: str, decode: Callable[[], Any]) -> Any:
        tries = [_timed(decode, thread_time) for _ in range(TRIES)]
        self.found.append((min(seconds for _, seconds in tries), name, self._given))
        return tries[0][0]


def _timed(decode: Callable[[], Any], clock: Callable[[], float]) -> tuple[Any, float]:
    began = clock()
    try:
        found = decode()
    except ProtocolError:
        found = None
    return found, clock() - began


def _checked(frame: bytes) -> str:
    """Payloads are decoded from frames that may be parsed at all, and from no others."""
    return checks.check_text(
        frame, bytes_max=LIMITS.command_bytes_max, nesting_max=LIMITS.nesting_max
    )
