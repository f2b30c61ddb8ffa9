"""Reads the fields of one mapping of a template; what is wrong becomes a finding, not an exception.

Everywhere null means that nothing was said, as in the files that exist.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasker_zmq.templates.problems import Findings, Where, clipped, shown

NAME: Final = re.compile(r"[A-Za-z_][\w.\-]{0,127}", re.ASCII)
NAME_WANTED: Final = (
    "a name: a letter or '_', then up to 127 letters, digits, '_', '.' or '-' (no '/', no '@')"
)
# A task's name may hold '/', as templates in the wild do; its namespace ends at the first one.
TASK_NAME: Final = re.compile(r"(?!.{129})[A-Za-z_][\w.\-]*(?:/[A-Za-z_][\w.\-]*)*", re.ASCII)
TASK_NAME_WANTED: Final = (
    "a name: a letter or '_', then letters, digits, '_', '.', '-' or '/', at most 128 (no '@')"
)
HANDLER: Final = re.compile(r"[A-Za-z_][\w.:]{0,199}", re.ASCII)
HANDLER_WANTED: Final = (
    "a handler's name: a letter or '_', then up to 199 letters, digits, '_', '.' or ':'"
)
VERSION: Final = re.compile(r"\w[\w.+\-]{0,63}", re.ASCII)
VERSION_WANTED: Final = "a version as in '1.0.0': up to 64 letters, digits, '.', '-', '+' or '_'"


@dataclass(frozen=True)
class Section:
    """One mapping with its place in the file; `label` begins its messages."""

    label: str
    values: Mapping[str, Any]
    where: Where
    findings: Findings

    def at(self, key: str) -> Where:
        return (*self.where, key)

    def refuse(self, key: str, message: str) -> None:
        self.findings.refuse(self.at(key), f"{self.label}{message}")

    def warn(self, key: str, message: str) -> None:
        self.findings.warn(self.at(key), f"{self.label}{message}")

    def unwanted(self, key: str, *, wanted: str) -> None:
        """Refuses the value of `key`, because `wanted` was wanted."""
        self.refuse(key, f"'{key}' is {shown(self.values[key])}; it wants {wanted}")

    def said(self, *keys: str) -> str | None:
        """The first of these spellings of one field that is there; two that differ are refused."""
        there = [key for key in keys if self.values.get(key) is not None]
        for other in there[1:]:
            if self.values[other] != self.values[there[0]]:
                self.refuse(other, f"'{there[0]}' and '{other}' mean the same and differ; keep one")
        return there[0] if there else None

    def text(self, *keys: str) -> str | None:
        key = self.said(*keys)
        if key is None or isinstance(self.values[key], str):
            return None if key is None else str(self.values[key])
        self.unwanted(key, wanted="a text")
        return None

    def matching(self, *keys: str, pattern: re.Pattern[str], wanted: str) -> str | None:
        key = self.said(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.unwanted(key, wanted=wanted)
        return None

    def flag(self, *keys: str) -> bool | None:
        key = self.said(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, bool):
            return value
        self.unwanted(key, wanted="true or false")
        return None

    def whole(self, *keys: str, low: int, high: int) -> int | None:
        key = self.said(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.unwanted(key, wanted=f"a whole number from {low} to {high}")
        return None

    def seconds(self, key: str, *, most: float) -> float | None:
        """A duration above zero."""
        if self.said(key) is None:
            return None
        value = self.values[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most:
            return float(value)
        self.unwanted(key, wanted=f"a number of seconds above 0 and up to {most:g}")
        return None

    def mapping(self, *keys: str) -> dict[str, Any] | None:
        key = self.said(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, dict):
            return value
        self.unwanted(key, wanted="a mapping")
        return None

    def section(self, key: str) -> "Section | None":
        """The mapping under `key`, its messages under the same label."""
        values = self.mapping(key)
        if values is None:
            return None
        return Section(self.label, values, self.at(key), self.findings)

    def sections(self, key: str, *, label: str) -> "tuple[Section, ...]":
        """The mappings of the list under `key`, each labelled by its name where it has one."""
        if self.said(key) is None:
            return ()
        entries = self.values[key]
        if not isinstance(entries, list):
            self.unwanted(key, wanted="a list of mappings")
            return ()
        found = []
        for index, entry in enumerate(entries):
            where = (*self.at(key), index)
            if isinstance(entry, dict):
                name = labelled(label, entry.get("name"), index)
                found.append(Section(self.label + name, entry, where, self.findings))
            else:
                wanted = f"entry {index + 1} of '{key}' wants a mapping, found {shown(entry)}"
                self.findings.refuse(where, self.label + wanted)
        return tuple(found)

    def names(self, key: str) -> tuple[str, ...] | None:
        """The list of names under `key`, each once."""
        if self.said(key) is None:
            return None
        value = self.values[key]
        if not isinstance(value, list):
            self.unwanted(key, wanted="a list of step names, as in [first, second]")
            return None
        found: dict[str, None] = {}
        for index, name in enumerate(value):
            where = (*self.at(key), index)
            if not isinstance(name, str) or not name:
                message = f"'{key}' wants names of steps, found {shown(name)}"
                self.findings.refuse(where, self.label + message)
            elif name in found:
                self.findings.warn(where, f"{self.label}'{key}' names '{name}' twice")
            else:
                found[name] = None
        return tuple(found)

    def note_unused(self, keys: "Keys") -> None:
        """Refuses the other dialect's keys, warns of misspelt ones, remembers the unused."""
        for key, value in self.values.items():
            if key in keys.used or value in (None, "", [], {}):
                continue
            if key in keys.foreign:
                self.refuse(
                    key,
                    f"'{key}' belongs to the other dialect of templates, and one file keeps to one;"
                    f" write {keys.foreign[key]}",
                )
                continue
            guess = (
                ""
                if key in keys.unused
                else self.findings.guess(key, sorted(keys.known), cutoff=0.75)
            )
            if guess:
                self.warn(key, f"unknown key '{clipped(key)}', kept but not used{guess}")
            else:
                self.findings.keep(self.at(key))


@dataclass(frozen=True)
class Keys:
    """The keys of one kind of mapping; `foreign` says what to write instead of each."""

    used: frozenset[str]
    unused: frozenset[str] = frozenset()
    foreign: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        return self.used | self.unused


def labelled(label: str, name: object, index: int) -> str:
    if isinstance(name, str) and NAME.fullmatch(name):
        return f"{label} '{name}': "
    return f"{label} {index + 1}: "
