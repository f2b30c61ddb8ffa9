"""The settings file as a layer: flat sections, `default:`, then the chosen environment's."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings import seeds
from tasker_zmq.settings.catalogue import BY_KEY, SECTIONS
from tasker_zmq.settings.document import (
    Branch,
    Leaf,
    UnresolvedError,
    interpolate,
    read_document,
)
from tasker_zmq.settings.layers import Layer, unknown_setting
from tasker_zmq.settings.setting import UnusableValueError

STANDARD_ENVIRONMENTS: Final = ("development", "test", "production")
_DEFAULT: Final = "default"
_TOP_KEYS: Final = tuple(key for key in BY_KEY if "." not in key)
_FLAT: Final = frozenset((*_TOP_KEYS, *SECTIONS, seeds.SECTION))
_EXTENSION: Final = "x-"  # a place for anchors, as in docker-compose files


@dataclass(frozen=True)
class SettingsFile:
    """A file whose sections are told apart, not yet whether their values fit."""

    path: Path
    flat: Branch
    default: Branch
    environments: Mapping[str, Branch]
    unknown: tuple[tuple[str, int], ...]

    def names_environments(self) -> bool:
        return bool(self.environments or self.default.entries)

    def declared_environment(self, variables: Mapping[str, str]) -> str | None:
        """The environment that the file itself chooses; raises SettingsError for no name."""
        leaf = self.flat.entries.get("environment")
        if not isinstance(leaf, Leaf):
            return None
        try:
            return str(BY_KEY["environment"].convert(interpolate(leaf.value, variables)))
        except (UnusableValueError, UnresolvedError) as problem:
            origin = f"{self.path}:{leaf.line}"
            raise SettingsError(f"'environment' {problem} (from {origin})") from problem


def read_settings_file(path: Path) -> SettingsFile:
    """Raises SettingsError where the file cannot be read, or is no mapping of YAML."""
    root = read_document(path)
    flat: dict[str, Leaf | Branch] = {}
    environments: dict[str, Branch] = {}
    default = Branch({}, 1)
    unknown: list[tuple[str, int]] = []
    for key, node in root.entries.items():
        if key in _FLAT:
            flat[key] = node
        elif key.startswith(_EXTENSION):
            continue
        elif key == _DEFAULT:
            default = _section(node, path)
        elif key in STANDARD_ENVIRONMENTS or _looks_like_environment(node):
            environments[key] = _section(node, path)
        else:
            unknown.append((key, node.line))
    return SettingsFile(
        path=path,
        flat=Branch(flat, root.line),
        default=default,
        environments=environments,
        unknown=tuple(unknown),
    )


def _looks_like_environment(node: Leaf | Branch) -> bool:
    return isinstance(node, Branch) and bool(node.entries) and not node.entries.keys() - _FLAT


def _section(node: Leaf | Branch, path: Path) -> Branch:
    if isinstance(node, Branch):
        return node
    if node.value is None:  # `test:` with nothing under it
        return Branch({}, node.line)
    raise SettingsError(f"{path}:{node.line} wants a mapping of sections, found a value")


def file_layer(file: SettingsFile, *, environment: str, variables: Mapping[str, str]) -> Layer:
    """Everything the file says for `environment`; the other environments are checked as well."""
    layer = Layer()
    for key, line in file.unknown:
        layer.problems.append(unknown_setting(key, origin=f"{file.path}:{line}"))
    layer.absorb(_scope(file, file.flat, variables))
    layer.absorb(_scope(file, file.default, variables))
    for name, section in file.environments.items():
        if name != environment:
            other = _scope(file, section, None)
            layer.problems += other.problems
            layer.warnings += _mistaken_environment(file, name, section)
    chosen = file.environments.get(environment)
    if chosen is not None:
        layer.absorb(_scope(file, chosen, variables))
    elif file.names_environments() and environment not in STANDARD_ENVIRONMENTS:
        layer.problems.append(_missing_environment(file, environment))
    return layer


def _mistaken_environment(file: SettingsFile, name: str, section: Branch) -> Iterator[str]:
    close = difflib.get_close_matches(name, STANDARD_ENVIRONMENTS, n=1, cutoff=0.8)
    if close and name not in STANDARD_ENVIRONMENTS:
        yield (
            f"section '{name}' in {file.path}:{section.line} is not in use;"
            f" did you mean '{close[0]}'?"
        )


def _missing_environment(file: SettingsFile, environment: str) -> str:
    known = tuple(dict.fromkeys((*file.environments, *STANDARD_ENVIRONMENTS)))
    close = difflib.get_close_matches(environment, known, n=1)
    way_out = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
    return f"no section '{environment}' in {file.path}; {way_out}"


def _scope(file: SettingsFile, branch: Branch, variables: Mapping[str, str] | None) -> Layer:
    """One set of sections; without variables, values that need some are not looked at."""
    older, native = Layer(), Layer()
    for section, node in branch.entries.items():
        if section in _TOP_KEYS:
            if section == "environment" and branch is not file.flat:
                native.problems.append(_misplaced_environment(file, node))
            else:
                _take(native, file, section, node=node, variables=variables)
        elif section not in _FLAT:
            native.problems.append(unknown_setting(section, origin=f"{file.path}:{node.line}"))
        elif isinstance(node, Leaf):
            if node.value is not None:
                native.problems.append(
                    f"'{section}' wants a mapping of settings, found a value"
                    f" (from {file.path}:{node.line})"
                )
        else:
            layer = older if section == seeds.SECTION else native
            for name, value in node.entries.items():
                _take(layer, file, f"{section}.{name}", node=value, variables=variables)
    older.absorb(native)  # beside its older name, a setting's own name wins
    return older


def _misplaced_environment(file: SettingsFile, node: Leaf | Branch) -> str:
    return (
        "'environment' chooses the section and cannot stand in one; use --env, TASKER_ENV"
        f" or the top of the file, not {file.path}:{node.line}"
    )


def _take(
    layer: Layer,
    file: SettingsFile,
    written: str,
    *,
    node: Leaf | Branch,
    variables: Mapping[str, str] | None,
) -> None:
    origin = f"{file.path}:{node.line}"
    key, unit = _our_key(written)
    if key is None:
        reason = seeds.WITHOUT_EFFECT.get(written.partition(".")[2])
        if written.startswith(f"{seeds.SECTION}.") and reason is not None:
            layer.warnings.append(f"'{written}' in {origin} has no effect: {reason}")
        else:
            layer.problems.append(_unknown(written, origin))
        return
    raw: object = node.value if isinstance(node, Leaf) else node.entries
    try:
        filled = interpolate(raw, variables or {})
    except UnresolvedError as problem:
        if variables is not None:
            layer.problems.append(f"'{written}' {problem} (from {origin})")
        return
    if variables is None and filled != raw:
        return  # another environment's value, known only where its variables are
    layer.take(key, seeds.in_our_unit(filled, unit), origin=origin, shown_as=written)


def _our_key(written: str) -> tuple[str | None, str]:
    section, _, name = written.partition(".")
    if section == seeds.SECTION:
        return seeds.MAPPED.get(name, (None, ""))
    return (written if written in BY_KEY else None), ""


def _unknown(written: str, origin: str) -> str:
    section, _, name = written.partition(".")
    if section != seeds.SECTION:
        return unknown_setting(written, origin=origin)
    known = (*seeds.MAPPED, *seeds.WITHOUT_EFFECT)
    close = difflib.get_close_matches(name, known, n=1)
    way_out = f"did you mean '{section}.{close[0]}'?" if close else f"known: {', '.join(known)}"
    return f"unknown setting '{written}' in {origin}; {way_out}"
