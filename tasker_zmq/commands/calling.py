"""Call: functions that the daemon's settings name, and no others, with what a command brings."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import checks, codec
from tasker_zmq.protocol.management import Call, Called

Functions = Mapping[str, Callable[..., Any]]
RESULT_BYTES_MAX: Final = 1 << 20
RESULT_NESTING_MAX: Final = 64
ERROR_LENGTH_MAX: Final = 500


def call(functions: Functions, request: Call) -> Called:
    """Run it with the arguments as keywords; whatever it raises is a refusal."""
    function = functions.get(request.function)
    if function is None:
        raise CommandRefusedError(
            "unknown_function",
            f"no function '{request.function[:60]}' may be called",
            hint=f"allowed: {', '.join(sorted(functions))}"
            if functions
            else "call.functions of the daemon's settings names none",
        )
    arguments = {name: msgspec.json.decode(raw) for name, raw in request.arguments.items()}
    try:
        result = function(**arguments)
    except BaseException as error:  # noqa: BLE001 - not ours, and no thread of ours may end by it
        said = f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
        raise CommandRefusedError("call_failed", f"{request.function}: {said}") from None
    return Called(function=request.function, result=_checked(request.function, result))


def _checked(function: str, result: object) -> msgspec.Raw:
    """The result as JSON that may travel; raises CommandRefusedError."""
    try:
        text = codec.encode(result)
        checks.check_text(text, bytes_max=RESULT_BYTES_MAX, nesting_max=RESULT_NESTING_MAX)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError, ProtocolError) as error:
        raise CommandRefusedError(
            "call_failed", f"{function}: what it returned is no JSON that may travel: {error}"[:500]
        ) from None
    return msgspec.Raw(text)
