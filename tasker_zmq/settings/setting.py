"""What one setting is: its kind, its range, and how a given value becomes its value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tasker_zmq.settings.units import format_duration, format_size, parse_duration, parse_size


class Kind(StrEnum):
    """What a setting's value looks like; it decides the unit of a plain number."""

    NAME = "name"
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "true or false"
    SECONDS = "duration in seconds"
    MILLISECONDS = "duration in milliseconds"
    BYTES = "size in bytes"
    CHOICE = "choice"
    PATH = "path"
    ENDPOINT = "endpoint"
    ENDPOINTS = "list of endpoints"
    DATABASE_URL = "database URL"
    FUNCTIONS = "functions by name"


class UnusableValueError(Exception):
    """The value does not fit its setting; the message says what was wanted and what was found."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One entry of the catalogue."""

    key: str
    kind: Kind
    default: Any
    description: str
    default_shown: str = ""  # where the default depends on the machine
    effect: str  # when to change it, and what happens then
    between: tuple[float, float] | None = None  # both ends allowed, in the setting's own unit
    choices: type[StrEnum] | None = None
    fallback_variables: tuple[str, ...] = ()
    also_called: tuple[str, ...] = ()  # what people write instead; only for suggestions

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        if self.key == "environment":
            return "TASKER_ENV"
        return "TASKER_" + self.key.upper().replace(".", "_")

    @property
    def secret(self) -> bool:
        return self.kind is Kind.DATABASE_URL

    @property
    def wants(self) -> str:
        """The values it takes, in words."""
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        words = _WANTS[self.kind]
        if self.between is None:
            return words
        low, high = (self.show(bound) for bound in self.between)
        return words.format(low=low, high=high)

    def show(self, value: object) -> str:
        """A value of this setting as text that `convert` reads back; passwords are hidden."""
        if value is None:
            return ""
        if isinstance(value, tuple):
            return ",".join(str(each) for each in value)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return _shown_number(self.kind, value)
        return mask_password(str(value)) if self.secret else str(value)

    def convert(self, given: object) -> object:
        """`given` (from YAML, a variable or a flag) as this setting's value, checked.

        Raises UnusableValueError, whose message never shows a secret.
        """
        value = _CONVERSIONS[self.kind](self, given)
        if value is _UNFIT or not self._is_within(value):
            found = "something else" if self.secret else _found(given)
            raise UnusableValueError(f"wants {self.wants}, found {found}")
        return value

    def _is_within(self, value: object) -> bool:
        if self.between is None:
            return True
        low, high = self.between
        return isinstance(value, int | float) and low <= value <= high


_UNFIT: Final = object()
_ENDPOINT_FORMS: Final = "tcp://HOST:PORT, ipc://PATH or inproc://NAME"
_WANTS: Final[Mapping[Kind, str]] = {
    Kind.NAME: "1 to 64 letters, digits, '.', '_' or '-'",
    Kind.WHOLE: "a whole number from {low} to {high}",
    Kind.NUMBER: "a number from {low} to {high}",
    Kind.FLAG: "true or false",
    Kind.SECONDS: "a duration from {low} to {high} (500ms, 30s, 5m; a plain number: seconds)",
    Kind.MILLISECONDS: "a duration from {low} to {high} (500ms, 2s; a plain number: milliseconds)",
    Kind.BYTES: "a size from {low} to {high} (64KiB, 1MiB; a plain number: bytes)",
    Kind.PATH: "a path",
    Kind.ENDPOINT: _ENDPOINT_FORMS,
    Kind.ENDPOINTS: f"a list, each {_ENDPOINT_FORMS}",
    Kind.FUNCTIONS: "a mapping of names to MODULE:FUNCTION; in a variable NAME=MODULE:FUNCTION,...",
    Kind.DATABASE_URL: "postgresql://USER:PASSWORD@HOST:PORT/NAME",
}
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WHOLE: Final = re.compile(r"-?[0-9]{1,15}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_TCP: Final = re.compile(r"tcp://[^\s;/]+:(\*|[0-9]{1,5})")
_OTHER_ENDPOINT: Final = re.compile(r"(ipc|inproc)://\S+")
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w{0,63}=[A-Za-z_][\w.]{0,199}:[A-Za-z_]\w{0,199}")
_FLAGS: Final[Mapping[str, bool]] = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_DATABASE_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
_IPC_PATH_BYTES_MAX: Final = 107  # of sockaddr_un on Linux
_PORT_MAX: Final = 65_535
_FOUND_CHARACTERS_MAX: Final = 80


def mask_password(url: str) -> str:
    """The URL with its password as `***`; rather too much is hidden than too little."""
    hidden = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", hidden)


def _shown_number(kind: Kind, value: float) -> str:
    match kind:
        case Kind.SECONDS:
            return format_duration(Decimal(str(value)))
        case Kind.MILLISECONDS:
            return format_duration(Decimal(str(value)) / 1000)
        case Kind.BYTES:
            return format_size(int(value))
        case _:
            return f"{value:.15g}"


def _found(given: object) -> str:
    match given:
        case None:
            return "nothing"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return f"a list of {len(given)}"
        case bool():
            return str(given).lower()
        case _:
            shown = repr(given) if isinstance(given, str) else str(given)
    if len(shown) > _FOUND_CHARACTERS_MAX:
        return shown[:_FOUND_CHARACTERS_MAX] + "..."
    return shown


def _text(given: object) -> str | None:
    """Scalars as text, so that YAML, variables and flags are read by the same rules."""
    if isinstance(given, bool) or not isinstance(given, str | int | float | Path):
        return None
    return format(given, ".15f").rstrip("0").rstrip(".") if isinstance(given, float) else str(given)


def _name(_: Setting, given: object) -> object:
    text = _text(given)
    return text if text is not None and _NAME.fullmatch(text) else _UNFIT


def _whole(_: Setting, given: object) -> object:
    text = _text(given)
    return int(text) if text is not None and _WHOLE.fullmatch(text.strip()) else _UNFIT


def _number(_: Setting, given: object) -> object:
    text = _text(given)
    return float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else _UNFIT


def _flag(_: Setting, given: object) -> object:
    if isinstance(given, bool):
        return given
    return _FLAGS.get((_text(given) or "").strip().lower(), _UNFIT)


def _seconds(_: Setting, given: object) -> object:
    seconds = parse_duration(_text(given) or "", plain=Decimal(1))
    return _UNFIT if seconds is None else float(seconds)


def _milliseconds(_: Setting, given: object) -> object:
    seconds = parse_duration(_text(given) or "", plain=Decimal("0.001"))
    return _UNFIT if seconds is None else _if_whole(seconds * 1000)


def _size(_: Setting, given: object) -> object:
    count = parse_size(_text(given) or "")
    return _UNFIT if count is None else _if_whole(count)


def _if_whole(number: Decimal) -> object:
    return int(number) if number == int(number) else _UNFIT


def _choice(setting: Setting, given: object) -> object:
    text = (_text(given) or "").strip().lower()
    return next((each for each in setting.choices or () if each.value == text), _UNFIT)


def _path(_: Setting, given: object) -> object:
    text = _text(given)
    if not text or "\0" in text or not isinstance(given, str | Path):
        return _UNFIT
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~stranger`: there is no such user
        return _UNFIT


def _endpoint(_: Setting, given: object) -> object:
    return given.strip() if isinstance(given, str) and is_endpoint(given.strip()) else _UNFIT


def _endpoints(setting: Setting, given: object) -> object:
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple):
        return _UNFIT
    found = [_endpoint(setting, each) for each in parts if each not in ("", None)]
    return _UNFIT if _UNFIT in found else tuple(found)


def is_endpoint(text: str) -> bool:
    """Whether ZeroMQ would take it: a known transport, a port in range, a path that fits."""
    tcp = _TCP.fullmatch(text)
    if tcp is not None:
        return tcp[1] == "*" or int(tcp[1]) <= _PORT_MAX
    if _OTHER_ENDPOINT.fullmatch(text) is None or "\0" in text:
        return False
    path = text.removeprefix("ipc://")
    return path == text or len(path.encode(errors="replace")) <= _IPC_PATH_BYTES_MAX


def _database_url(_: Setting, given: object) -> object:
    if given is None:
        return None
    if not isinstance(given, str):
        return _UNFIT
    try:
        scheme = urlsplit(given.strip()).scheme
    except ValueError:  # such as an unclosed [ of an IPv6 address
        return _UNFIT
    return given.strip() if scheme in _DATABASE_SCHEMES else _UNFIT


def _functions(_: Setting, given: object) -> object:
    """Entries like `name=module:function`, in the order of their names."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        found = [f"{name}={getattr(each, 'value', each)}" for name, each in given.items()]
    elif isinstance(given, str):
        found = [each.strip() for each in given.split(",") if each.strip()]
    elif isinstance(given, list | tuple):
        found = [str(each) for each in given]
    else:
        return _UNFIT
    fits = all(_FUNCTION.fullmatch(each) for each in found)
    names = {each.partition("=")[0] for each in found}
    return tuple(sorted(found)) if fits and len(names) == len(found) else _UNFIT


_CONVERSIONS: Final = {
    Kind.NAME: _name,
    Kind.WHOLE: _whole,
    Kind.NUMBER: _number,
    Kind.FLAG: _flag,
    Kind.SECONDS: _seconds,
    Kind.MILLISECONDS: _milliseconds,
    Kind.BYTES: _size,
    Kind.CHOICE: _choice,
    Kind.PATH: _path,
    Kind.ENDPOINT: _endpoint,
    Kind.ENDPOINTS: _endpoints,
    Kind.DATABASE_URL: _database_url,
    Kind.FUNCTIONS: _functions,
}
