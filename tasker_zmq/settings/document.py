"""A YAML file as a tree that knows its lines; nothing is ever constructed but plain scalars."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tasker_zmq.errors import SettingsError

FILE_BYTES_MAX: Final = 1 << 18
_DEPTH_MAX: Final = 8


@dataclass(frozen=True)
class Leaf:
    """A scalar or a list, and the line it stands on."""

    value: object
    line: int


@dataclass(frozen=True)
class Branch:
    """A mapping, and the line it begins on."""

    entries: Mapping[str, "Leaf | Branch"]
    line: int


class _Loader(yaml.SafeLoader):
    """Safe, and ours, so that nobody's additions to SafeLoader reach it."""


def read_document(path: Path) -> Branch:
    """The file's mapping; raises SettingsError naming file and line."""
    text = read_text(path, bytes_max=FILE_BYTES_MAX, what="the settings file")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Branch({}, 1)
        tree = _Tree(loader, path).grow(node, depth=0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SettingsError(f"{place} is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deep for settings") from error
    if isinstance(tree, Leaf):
        raise SettingsError(f"{path}:{tree.line} wants a mapping of sections, found a value")
    return tree


def read_text(path: Path, *, bytes_max: int, what: str) -> str:
    """A small UTF-8 file; raises SettingsError if it is none."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)  # bounded, for a device has no end
    except OSError as error:
        raise SettingsError(f"cannot read {what} {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise SettingsError(f"cannot read {what}: {error}") from error
    if len(content) > bytes_max:
        raise SettingsError(f"{what} {path} wants to be a file of at most {bytes_max} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{what} {path} is not UTF-8 at byte {error.start}") from error


class _Tree:
    """Grows the tree of one file; what an anchor shares is grown once, however often it is used."""

    def __init__(self, loader: _Loader, path: Path) -> None:
        self._loader = loader
        self._path = path
        self._grown: dict[int, Leaf | Branch] = {}

    def grow(self, node: yaml.Node, *, depth: int) -> Leaf | Branch:
        line = node.start_mark.line + 1
        if depth > _DEPTH_MAX:
            raise SettingsError(f"{self._path}:{line} is nested too deep for settings")
        known = self._grown.get(id(node))
        if known is None:
            known = self._grown[id(node)] = self._grow(node, line, depth=depth)
        return known

    def _grow(self, node: yaml.Node, line: int, *, depth: int) -> Leaf | Branch:
        match node:
            case yaml.MappingNode():
                return Branch(self._entries(node, depth=depth), line)
            case yaml.SequenceNode():
                return Leaf([self._member(each, depth=depth + 1) for each in node.value], line)
            case _:
                return Leaf(self._loader.construct_object(node), line)

    def _member(self, node: yaml.Node, *, depth: int) -> object:
        """A list's scalar; a list of lists could hide an explosion, and is no setting's value."""
        grown = self.grow(node, depth=depth)
        return grown.value if isinstance(node, yaml.ScalarNode) and isinstance(grown, Leaf) else {}

    def _entries(self, node: yaml.MappingNode, *, depth: int) -> dict[str, Leaf | Branch]:
        merged: dict[str, Leaf | Branch] = {}
        own: dict[str, Leaf | Branch] = {}
        for key_node, value_node in node.value:
            place = f"{self._path}:{key_node.start_mark.line + 1}"
            if key_node.tag == "tag:yaml.org,2002:merge":
                for parent in self._parents(value_node, place, depth=depth):
                    merged = {**parent.entries, **merged}  # of several parents the first one wins
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise SettingsError(f"{place} wants a name as key, found a list or mapping")
            if key_node.value in own:
                raise SettingsError(f"{place} sets '{key_node.value}' a second time; keep one")
            value = self.grow(value_node, depth=depth + 1)
            if isinstance(value, Leaf):  # people look for a value where its key stands
                value = Leaf(value.value, key_node.start_mark.line + 1)
            own[key_node.value] = value
        return {**merged, **own}

    def _parents(self, node: yaml.Node, place: str, *, depth: int) -> Iterator[Branch]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for each in nodes:
            parent = self.grow(each, depth=depth + 1)
            if not isinstance(parent, Branch):
                raise SettingsError(f"{place} wants to merge (<<) a mapping, found a value")
            yield parent


_INTERPOLATION: Final = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


class UnresolvedError(Exception):
    """A `${...}` cannot be filled; the message says why."""


def interpolate(value: object, variables: Mapping[str, str]) -> object:
    """Fill `${NAME}` and `${NAME:-default}` in strings, also within a list; `$${` is a `${`."""
    if isinstance(value, list):
        return [interpolate(each, variables) for each in value]
    return _INTERPOLATION.sub(_filler(variables), value) if isinstance(value, str) else value


def _filler(variables: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    def fill(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped is not None:
            return "${"
        if name is None:
            raise UnresolvedError("has a '${' that is not '${NAME}' or '${NAME:-default}'")
        found = variables.get(name) or default
        if found is None:
            raise UnresolvedError(
                f"needs the variable {name}, which is not set; set it or write ${{{name}:-default}}"
            )
        return found

    return fill
