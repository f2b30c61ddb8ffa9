"""What a handler returned, as JSON bytes; whatever JSON cannot say is refused with its path."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

import msgspec
import orjson

from tasker_zmq.protocol.checks import INT64_MAX, INT64_MIN, nesting

_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG: Final = b"0" * len(str(INT64_MAX))  # a search for it takes a tenth of a pattern's time
_NUL_ESCAPE: Final = b"\\u0000"
_BACKSLASH: Final = b"\\\\"  # an escaped one: what follows it is no escape
_PLAIN: Final = (str, bool, int, float, type(None))
_PATH_DEPTH_MAX: Final = 200  # orjson gives up at 254


class UnfitOutputError(Exception):
    """The value cannot be a step's result; the message names the path."""


def encode_output(value: object, *, bytes_max: int, nesting_max: int) -> bytes:
    """`value` as JSON; raises UnfitOutputError.

    orjson writes NaN as null and takes integers that other languages cannot hold, both in
    silence; only bytes that may hide such a value cost the slow walk.
    """
    try:
        encoded = orjson.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        problem = next(_problems(value, "$", 0), None)
        raise UnfitOutputError(problem or f"the output is not JSON: {error}") from None
    if b"null" in encoded or _NUL_ESCAPE in encoded or _LONG in encoded.translate(_DIGITS):
        problem = next(_problems(value, "$", 0), None)
        if problem is None and _NUL_ESCAPE in encoded.replace(_BACKSLASH, b""):
            problem = "the output has a NUL character"  # in an object that hides where
        if problem is not None:
            raise UnfitOutputError(problem)
    if len(encoded) > bytes_max:
        raise UnfitOutputError(
            f"the output is {len(encoded)} bytes, at most {bytes_max} are taken; store it"
            " elsewhere and return where it is"
        )
    if nesting(encoded, nesting_max) > nesting_max:
        raise UnfitOutputError(f"the output nests deeper than {nesting_max}")
    return encoded


def _plain(value: Any) -> Any:
    """What orjson does not know by itself: structs and pydantic models."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")


def _problems(value: Any, path: str, depth: int) -> Iterator[str]:
    """Each thing in `value` that JSON between languages cannot carry, as a sentence."""
    value = value.value if isinstance(value, Enum) else value
    if depth > _PATH_DEPTH_MAX:
        yield f"the output nests too deep at {path[:80]}..."
    elif isinstance(value, _PLAIN):
        if problem := _plain_problem(value):
            yield f"the output has {problem} at {path}"
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _problems(each, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        yield from _mapping_problems(value, path, depth)
    else:
        yield from _object_problems(value, path, depth)


def _mapping_problems(value: Mapping[Any, Any], path: str, depth: int) -> Iterator[str]:
    for key, each in value.items():
        if not isinstance(key, str):
            kind = type(key).__name__
            yield f"the output has the key {key!r} ({kind}) at {path}; keys must be text"
        elif _plain_problem(key):
            yield f"the output has a key with {_plain_problem(key)} at {path}"
        else:
            yield from _problems(each, f"{path}.{key}", depth + 1)


def _plain_problem(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}, which JSON has no word for,"
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return "an integer beyond 64 bits (write it as text)"
    if isinstance(value, str):
        if "\x00" in value:
            return "a NUL character"
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            return "half of a surrogate pair"
    return None


def _object_problems(value: Any, path: str, depth: int) -> Iterator[str]:
    names: tuple[str, ...] = ()
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(each.name for each in dataclasses.fields(value))
    if names:
        yield from _mapping_problems({name: getattr(value, name) for name in names}, path, depth)
        return
    try:
        if hasattr(value, "model_dump"):
            yield from _problems(_plain(value), path, depth + 1)
        orjson.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError):
        kind = type(value).__name__
        yield f"the output has a {kind} at {path}, which is not JSON; convert it before returning"
