"""Whether bytes may be parsed at all: size, UTF-8, depth, and what no two readers agree on.

Source of the rules: docs/PROTOCOL.md, section "Bad input".

A megabyte may be made to be slow. Nothing here takes it to pieces as a whole: half a million pieces
cost several times as much as the same in short lists, one after the other.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from math import isinf
from typing import Final

import orjson

from tasker_zmq.errors import ProtocolError

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)
INT64_DIGITS_MAX: Final = len(str(INT64_MAX))
DIGITS_SHOWN: Final = 24
STRETCH_BYTES: Final = 1 << 14  # what is taken to pieces at once
MANY_AMONG: Final = 4  # of so many bytes one: then it is faster to look at each number than for it

# Regular expressions take many times as long as these over a megabyte that was made to be slow; but
# for the letters that one begins with it searches fast.
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_SHAPE = b"0" * INT64_DIGITS_MAX
_PLAIN, _SIGNED = b"0e000", b"0e+000"
_INFINITE_SHAPES = (_PLAIN, _SIGNED, b"0" * 200)  # the largest double is 1.8e308
_LONG_INTEGERS = re.compile(b" %b0*(?= )" % _LONG_SHAPE)
_LARGEST, _SMALLEST = b"%d" % INT64_MAX, b"%d " % INT64_MIN
_NUMBERS_ONLY = bytes(each if each in b"0123456789.eE+-" else 0x20 for each in range(256))
_LONE_SURROGATE = re.compile(  # begins with what is the same in both: that is searched for fast
    r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD].))",
    re.DOTALL,
)
_BRACKETS = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UP_AND_DOWN = bytes.maketrans(b"()<>", bytes([1, 256 - 1, 4, 256 - 4]))  # as signed bytes
FLAT_LEVELS: Final = 3


def check_text(body: bytes, *, bytes_max: int, nesting_max: int) -> str:
    """`body` as text, if it may be parsed at all; raises ProtocolError."""
    if len(body) > bytes_max:
        raise ProtocolError("too_large", f"{len(body)} bytes, at most {bytes_max} are read")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("not_utf8", f"byte {error.start} is not UTF-8") from None
    if b"\x00" in body:
        raise ProtocolError("nul_byte", "a NUL stands in the text")
    deep = _brackets(body) > nesting_max
    huge = _may_be_huge(body)
    if deep or huge:
        outside = outside_strings(body)
        if deep and _depth(outside, nesting_max) > nesting_max:
            raise ProtocolError("too_deep", f"nested deeper than {nesting_max}")
        if huge and _may_be_huge(outside):  # most that look so are digests and ids, in strings
            _refuse_huge_numbers(outside)
    if b"\\u" in body:
        _refuse_odd_text(text)
    return text


def nesting(body: bytes, enough: int) -> int:
    """How deep brackets nest outside strings; a cheap upper bound when that is at most `enough`."""
    bound = _brackets(body)
    return bound if bound <= enough else _depth(outside_strings(body), enough)


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _depth(outside: bytes, enough: int) -> int:
    left = outside.translate(_BRACKETS, _NO_BRACKETS)
    opened = left.count(b"(")
    if opened * 2 != len(left) or b"(" * (enough + 1) in left:
        return opened  # they do not match, and it is no JSON; or they are deep in one place
    return _height(left)


def _height(left: bytes) -> int:
    """How deep `left`, of round brackets only, goes; the flat is made short level by level."""
    flat = 0
    while left and flat < FLAT_LEVELS:
        before = len(left)
        left = left.replace(b"()", b"")
        flat += 1
        if len(left) * 4 > before * 3:
            break  # it is tall, and made short by its slopes
    steps = left.replace(b"((((", b"<").replace(b"))))", b">").translate(_UP_AND_DOWN)
    return flat + max(accumulate(memoryview(steps).cast("b")), default=0)


def outside_strings(body: bytes) -> bytes:
    """`body` with a space for each string; of what is no JSON, anything."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if len(body) <= STRETCH_BYTES:
        return b" ".join(body.split(b'"')[::2])
    return b"".join(_outside(body)) if b'"' in body else body


def _outside(body: bytes) -> Iterator[bytes]:
    inside = 0
    for start in range(0, len(body), STRETCH_BYTES):
        pieces = body[start : start + STRETCH_BYTES].split(b'"')
        yield b" " * inside + b" ".join(pieces[inside::2])
        inside = (inside + len(pieces) - 1) % 2


def _refuse_odd_text(text: str) -> None:
    """What languages and databases do not agree on in strings: halves of pairs, NUL."""
    if "\\\\" in text:
        text = text.replace("\\\\", "  ")  # an escaped backslash: what follows it is no escape
    if "\\u0000" in text:
        raise ProtocolError("nul_byte", "an escaped NUL stands in a string")
    if ("\\ud" in text or "\\uD" in text) and _LONE_SURROGATE.search(text):
        raise ProtocolError("lone_surrogate", "half of a surrogate pair stands alone in a string")


def _may_be_huge(body: bytes) -> bool:
    shapes = body.translate(_DIGITS)  # a search for bytes takes a tenth of a pattern's time
    return _LONG_SHAPE in shapes or _PLAIN in shapes or _SIGNED in shapes


def _refuse_huge_numbers(outside: bytes) -> None:
    """Integers beyond 64 bits, and what is infinite as a double: not every reader minds."""
    bare = outside.replace(b"true", b"").replace(b"false", b"")  # an `e` is part of a number then
    numbers = b" %b " % bare.translate(_NUMBERS_ONLY)
    start = 0
    while start >= 0:
        end = numbers.find(b" ", start + STRETCH_BYTES)
        _refuse_huge_numbers_of(numbers[start:] if end < 0 else numbers[start : end + 1])
        start = end


def _refuse_huge_numbers_of(stretch: bytes) -> None:
    """Of numbers between spaces."""
    shapes = stretch.translate(_DIGITS)
    if _LONG_SHAPE in shapes:
        _refuse_beyond_64_bits(stretch.replace(_SMALLEST, b" "))
    if any(shape in shapes for shape in _INFINITE_SHAPES):
        _refuse_infinite(b",".join(stretch.split()))


def _refuse_beyond_64_bits(stretch: bytes) -> None:
    unsigned = stretch.replace(b"e-", b"e").replace(b"E-", b"e").replace(b"-", b" ")
    digits = _long_integers(unsigned, unsigned.translate(_DIGITS))
    # Of equal length, the larger number is also later in the order of bytes.
    for largest in (max(digits, key=len, default=b""), max(digits, default=b"")):
        if len(largest) > INT64_DIGITS_MAX or largest > _LARGEST:
            raise ProtocolError("huge_number", f"{_shown(largest)} is beyond 64 bits")


def _long_integers(unsigned: bytes, shapes: bytes) -> list[bytes]:
    """The numbers in it of so many digits and no other characters."""
    if shapes.count(_LONG_SHAPE) * INT64_DIGITS_MAX * MANY_AMONG < len(shapes):
        places = map(re.Match.span, _LONG_INTEGERS.finditer(shapes))
        return [unsigned[start + 1 : end] for start, end in places]
    words = [each for each in unsigned.split() if len(each) >= INT64_DIGITS_MAX]
    return [each for each in words if each.isdigit()]


def _refuse_infinite(together: bytes) -> None:
    """`together`: numbers with a comma between two."""
    try:
        orjson.loads(b"[%b]" % together)
    except orjson.JSONDecodeError as error:
        _refuse_this_if_infinite(together[error.pos - 1 :].partition(b",")[0])


def _refuse_this_if_infinite(number: bytes) -> None:
    """What is no number at all is left to whoever parses it."""
    with suppress(ValueError):
        if isinf(float(number)):
            shown = _shown(number)
            raise ProtocolError("huge_number", f"{shown} is beyond what a double can hold")


def _shown(number: bytes) -> str:
    return number[:DIGITS_SHOWN].decode("ascii") + ("..." if len(number) > DIGITS_SHOWN else "")
