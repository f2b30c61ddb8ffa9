"""What one source gives: values already checked, with where each came from."""

from dataclasses import dataclass, field
from typing import Final

from tasker_zmq.settings.catalogue import BY_KEY, SECTIONS, nearest_key
from tasker_zmq.settings.setting import UnusableValueError


@dataclass(frozen=True)
class Given:
    """A setting's value and its origin, such as `config/tasker.yaml:12`."""

    value: object
    origin: str


@dataclass
class Layer:
    """What one source gives; filled while the source is read, all its problems at once."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def take(self, key: str, raw: object, *, origin: str, shown_as: str = "") -> None:
        """Check and keep one value of a known key."""
        try:
            value = BY_KEY[key].convert(raw)
        except UnusableValueError as problem:
            self.problems.append(f"'{shown_as or key}' {problem} (from {origin})")
            return
        self.given[key] = Given(value, origin)

    def absorb(self, later: "Layer") -> None:
        """Take over what a later source gives; it wins."""
        self.given |= later.given
        self.problems += later.problems
        self.warnings += later.warnings


def unknown_setting(key: str, *, origin: str) -> str:
    """Says that there is no such setting, and which one there is."""
    return f"unknown setting '{key}' in {origin}; {_way_out(key)}"


def _way_out(key: str) -> str:
    if key in BY_KEY:
        section, _, name = key.partition(".")
        return f"write '{section}:' and, indented under it, '{name}:'"
    nearest = nearest_key(key)
    if nearest is not None:
        return f"did you mean '{nearest}'?"
    section = key.partition(".")[0]
    if section in SECTIONS:
        names = ", ".join(
            name.partition(".")[2] for name in BY_KEY if name.startswith(f"{section}.")
        )
        return f"'{section}' has: {names}"
    return f"the sections are: {', '.join(SECTIONS)}"


FLAG_ORIGIN: Final = "flag"
DEFAULT_ORIGIN: Final = "default"
