"""One YAML document as plain values that remember their lines.

Built from the parser's events, not with yaml.load: depth, size, tags and repeated keys are ours to
refuse, and no recursion of the library's can be driven by the file.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tasker_zmq.templates.plain import DEPTH_MAX, VALUES_MAX
from tasker_zmq.templates.problems import Where, clipped

BYTES_MAX: Final = 4 * 1024 * 1024
RESOLVED_CHARACTERS_MAX: Final = 64  # a longer plain text is a text, never a number
MERGED_KEYS_MAX: Final = 10_000

_TAG: Final = "tag:yaml.org,2002:"
_READ_TAGS: Final = tuple(_TAG + kind for kind in ("int", "float", "bool", "null", "merge"))
_UNPRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
# The C parser is some twenty times faster; the other one gives the same events.
_PARSER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class UnreadableError(Exception):
    """The text is no YAML document that we read; the line counts from 1."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(eq=False, slots=True)
class Node:
    """A value with its line; the parts are there for lists and mappings only."""

    line: int
    value: Any
    items: list["Node"] = field(default_factory=list)
    pairs: dict[str, tuple[int, "Node"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """The root and the lines of keys that stand twice."""

    root: Node
    repeated: tuple[tuple[int, str], ...]

    def line_of(self, where: Where) -> int | None:
        """The line of the deepest part of `where` that the text has."""
        node, line = self.root, self.root.line
        for part in where:
            if isinstance(part, int) and part < len(node.items):
                node = node.items[part]
                line = node.line
            elif isinstance(part, str) and part in node.pairs:
                line, node = node.pairs[part]
            else:
                break
        return line


def read_document(text: str) -> Document:
    """The only document of `text`; raises UnreadableError."""
    if len(text) > BYTES_MAX or len(text.encode(errors="replace")) > BYTES_MAX:
        raise UnreadableError(None, f"the text is longer than {BYTES_MAX} bytes")
    odd = _UNPRINTABLE.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise UnreadableError(line, f"YAML text cannot hold the character U+{ord(odd[0]):04X}")
    try:
        return _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(clipped(part) for part in (error.context, error.problem) if part)
        raise UnreadableError(mark.line + 1 if mark else None, f"no YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise UnreadableError(None, f"no YAML: {clipped(str(error))}") from error


class _Resolver(yaml.resolver.Resolver):
    """Gives plain scalars their type; times stay texts, because JSON has none."""


_Resolver.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag in _READ_TAGS]
    for first, known in yaml.resolver.Resolver.yaml_implicit_resolvers.items()
}


class _Composer:
    """Makes nodes of events; an alias is the node that its anchor names."""

    def __init__(self, text: str) -> None:
        self._events = iter(yaml.parse(text, Loader=_PARSER))
        self._resolver = _Resolver()
        self._constructor = yaml.constructor.SafeConstructor()
        self._anchors: dict[str, Node] = {}
        self._repeated: list[tuple[int, str]] = []
        self._nodes = 0
        self._merged_keys = 0

    def document(self) -> Document:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise UnreadableError(1, "the text holds no document; a template was wanted")
        root = self._node(next(self._events), depth=0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise UnreadableError(
                _line(after), "a second YAML document begins here; put each template in its file"
            )
        return Document(root=root, repeated=tuple(self._repeated))

    def _node(self, event: yaml.Event, *, depth: int) -> Node:
        line = _line(event)
        self._nodes += 1
        if self._nodes > VALUES_MAX:
            raise UnreadableError(line, f"more than {VALUES_MAX} values")
        if depth > DEPTH_MAX:
            raise UnreadableError(line, f"nested more than {DEPTH_MAX} levels deep")
        match event:
            case yaml.AliasEvent():
                return self._alias(event, line)
            case yaml.ScalarEvent():
                node = self._scalar(event, line)
            case yaml.SequenceStartEvent():
                node = self._sequence(event, line, depth=depth)
            case yaml.MappingStartEvent():
                node = self._mapping(event, line, depth=depth)
            case _:
                raise UnreadableError(line, "no YAML: a value was wanted")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent, line: int) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise UnreadableError(
                line,
                f"alias '*{clipped(event.anchor or '')}' names no anchor that ended before it;"
                " write the anchor first",
            )
        return node

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Node:
        tag, text = event.tag, event.value
        if tag is None or tag == "!":
            short = len(text) <= RESOLVED_CHARACTERS_MAX and ":" not in text
            plain = event.implicit if short else (False, True)
            tag = str(self._resolver.resolve(yaml.ScalarNode, text, plain))  # type: ignore[no-untyped-call]
        if tag in {_TAG + "str", _TAG + "merge"}:
            return Node(line, text)
        if tag not in _READ_TAGS or len(text) > RESOLVED_CHARACTERS_MAX:
            raise UnreadableError(line, f"YAML tag '{clipped(tag)}' is not read here; leave it out")
        return Node(line, self._typed(tag, text, line))

    def _typed(self, tag: str, text: str, line: int) -> bool | float | None:
        node = yaml.ScalarNode(tag, text)
        try:
            match tag.removeprefix(_TAG):
                case "int":
                    return self._constructor.construct_yaml_int(node)
                case "float":
                    return self._constructor.construct_yaml_float(node)
                case "bool":
                    return self._constructor.construct_yaml_bool(node)
                case _:
                    return None
        except (ValueError, KeyError, IndexError) as error:
            message = f"'{clipped(text)}' is not of the type that its tag says"
            raise UnreadableError(line, message) from error

    def _sequence(self, event: yaml.SequenceStartEvent, line: int, *, depth: int) -> Node:
        _refuse_tag(event.tag, "seq", line)
        nodes: list[Node] = []
        while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(inner, depth=depth + 1))
        return Node(line, [node.value for node in nodes], items=nodes)

    def _mapping(self, event: yaml.MappingStartEvent, line: int, *, depth: int) -> Node:
        _refuse_tag(event.tag, "map", line)
        pairs: dict[str, tuple[int, Node]] = {}
        merged: list[Node] = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            at = _line(inner)
            if not isinstance(inner, yaml.ScalarEvent):
                raise UnreadableError(at, "keys are texts here, not lists, mappings or aliases")
            key = inner.value
            node = self._node(next(self._events), depth=depth + 1)
            if key == "<<" and inner.implicit[0]:
                merged += node.items or [node]
            elif key in pairs:
                first = pairs[key][0]
                message = (
                    f"the key '{clipped(key)}' stands twice in one mapping, first on line {first}"
                )
                self._repeated.append((at, f"{message}; keep one"))
            else:
                pairs[key] = (at, node)
        whole = {**self._merged(merged, line), **pairs} if merged else pairs
        value = {key: node.value for key, (_, node) in whole.items()}
        return Node(line, value, pairs=whole)

    def _merged(self, nodes: list[Node], line: int) -> dict[str, tuple[int, Node]]:
        whole: dict[str, tuple[int, Node]] = {}
        for node in reversed(nodes):
            if not isinstance(node.value, dict):
                raise UnreadableError(line, "'<<' merges mappings; it was given something else")
            self._merged_keys += len(node.pairs)
            if self._merged_keys > MERGED_KEYS_MAX:
                raise UnreadableError(line, f"'<<' merges more than {MERGED_KEYS_MAX} keys")
            whole |= node.pairs
        return whole


def _refuse_tag(tag: str | None, kind: str, line: int) -> None:
    if tag not in {None, "!", _TAG + kind}:
        message = f"YAML tag '{clipped(str(tag))}' is not read here; leave it out"
        raise UnreadableError(line, message)


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1
