"""Durations and sizes as people write them: `30s`, `500ms`, `1MiB`, or plain numbers."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

DURATION_SECONDS: Final[Mapping[str, Decimal]] = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
SIZE_BYTES: Final[Mapping[str, Decimal]] = {
    "GiB": Decimal(1 << 30),
    "MiB": Decimal(1 << 20),
    "KiB": Decimal(1 << 10),
    "GB": Decimal(10**9),
    "MB": Decimal(10**6),
    "kB": Decimal(10**3),
    "KB": Decimal(10**3),
    "B": Decimal(1),
}

# Bounded digits: no text of a settings file makes the parser work for long.
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})", re.ASCII)


def parse_duration(text: str, *, plain: Decimal) -> Decimal | None:
    """Seconds in `text`, or None if it is no duration; a number alone counts `plain` seconds."""
    return _parse(text, DURATION_SECONDS, plain=plain)


def parse_size(text: str) -> Decimal | None:
    """Bytes in `text`, or None if it is no size; a number alone means bytes."""
    return _parse(text, SIZE_BYTES, plain=Decimal(1))


def _parse(text: str, units: Mapping[str, Decimal], *, plain: Decimal) -> Decimal | None:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    number, unit = match.groups()
    factor = plain if unit == "" else units.get(unit)
    return None if factor is None else Decimal(number) * factor


def format_duration(seconds: Decimal) -> str:
    """The shortest exact form: `90s`, `5m`, `500ms`."""
    return _format(seconds, DURATION_SECONDS, smallest="ms")


def format_size(count: int) -> str:
    """The shortest exact form in powers of 1024: `1MiB`, `1500B`."""
    binary = {unit: factor for unit, factor in SIZE_BYTES.items() if unit in _BINARY}
    return _format(Decimal(count), binary, smallest="B")


_BINARY: Final = ("GiB", "MiB", "KiB", "B")


def _format(quantity: Decimal, units: Mapping[str, Decimal], *, smallest: str) -> str:
    if quantity == 0:
        return "0s" if smallest == "ms" else "0B"
    for unit, factor in units.items():
        if quantity % factor == 0:
            return f"{int(quantity / factor)}{unit}"
    return f"{(quantity / units[smallest]).normalize():f}{smallest}"
