"""Lists as PostgreSQL arrays, made by methods that run at the speed of C.

The driver's own dumper quotes text element by element with a regular expression, which costs a
millisecond for a dozen JSON messages. Short elements go as a literal, which the server casts to the
column's type; long texts in the binary format, where nobody looks at each character for quotes.
"""

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

_PARTED: Final = "\0"
_PLAIN: Final = (int, float, bool)
LONG: Final = 48  # characters of the first element: from here on binary is faster for both sides
_TEXT_TYPE: Final = 25  # its number in pg_type
_HEAD: Final = struct.Struct(">5i").pack  # dimensions, NULLs, type, length, number of the first
_LENGTH: Final = struct.Struct(">i").pack
_NULL: Final = _LENGTH(-1)
_ONE_NULL: Final = b"{NULL}"


def array(values: Sequence[Any]) -> tuple[bytes, bool]:
    """A parameter for an array, and whether it is in the binary format; long texts are text[]."""
    first = _first(values)
    if len(values) == 1:  # most are, in a tick of one step, and it has some fifty of them
        kind = type(first)
        if kind is int:
            return b"{%d}" % first, False
        if first is None:
            return _ONE_NULL, False
    if isinstance(first, str) and len(first) >= LONG:
        return _texts(values), True
    return _literal(values, first).encode(), False


def _first(values: Sequence[Any]) -> Any:
    """The first that is not None, if any: all are of its type."""
    if not values or values[0] is not None:
        return values[0] if values else None
    for value in values:
        if value is not None:
            return value
    return None


def _texts(values: Sequence[str | None]) -> bytes:
    encoded = [None if value is None else value.encode() for value in values]
    parts = [_HEAD(1, None in encoded, _TEXT_TYPE, len(encoded), 1)]
    for each in encoded:
        if each is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH(len(each)))
            parts.append(each)
    return b"".join(parts)


def literal(values: Sequence[Any]) -> str:
    """`{1, NULL, 2}` or `{"a","b"}`; elements are of one type, or None."""
    return _literal(values, _first(values))


def _literal(values: Sequence[Any], first: Any) -> str:
    kind = type(first)
    if first is None or kind in _PLAIN:  # as Python writes them PostgreSQL reads them
        return "{" + repr(list(values))[1:-1].replace("None", "NULL") + "}"
    if issubclass(kind, str) and None not in values:
        parted = _PARTED.join(values)
        if parted.count(_PARTED) < len(values):  # else a text has it, which PostgreSQL refuses
            if "\\" in parted or '"' in parted:
                parted = parted.replace("\\", "\\\\").replace('"', '\\"')
            return '{"' + parted.replace(_PARTED, '","') + '"}'
    return "{" + ",".join([_quoted(each) for each in values]) + "}"


def _quoted(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    if isinstance(value, bytes):
        return '"\\\\x' + value.hex() + '"'
    raise TypeError(f"no array element can be made of {type(value).__name__}")
