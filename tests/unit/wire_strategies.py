"""Any value of any struct of the wire, made from the struct's own types."""

import importlib
import pkgutil
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, NewType, Union

import msgspec
import orjson
from hypothesis import strategies as st

from tasker_zmq import protocol
from tasker_zmq.protocol import messages
from tasker_zmq.protocol.checks import INT64_MAX, INT64_MIN

# What both sides can hold: no NUL, no halves of pairs, 64 bits, finite numbers.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
INTEGERS = st.integers(INT64_MIN, INT64_MAX)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT
JSON_VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
RAW_JSON = JSON_VALUES.map(lambda value: msgspec.Raw(orjson.dumps(value)))

_PLAIN_TYPES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: INTEGERS,
    float: FLOATS,
    bool: st.booleans(),
    type(None): st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    Any: JSON_VALUES,
    msgspec.Raw: RAW_JSON,
    msgspec.UnsetType: st.just(msgspec.UNSET),
}
PLACES = [
    importlib.import_module(f"{protocol.__name__}.{each.name}")
    for each in pkgutil.iter_modules(protocol.__path__)
]


def structs_of(module: types.ModuleType) -> list[type[msgspec.Struct]]:
    """The structs that a module defines."""
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == module.__name__
    ]


STRUCTS = [kind for place in PLACES for kind in structs_of(place)]


@cache
def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that stands in a struct, or of a struct; made once, for that takes long."""
    if kind in _PLAIN_TYPES:
        return _PLAIN_TYPES[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if isinstance(kind, NewType):
        return values_of(kind.__supertype__)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return st.builds(kind, **{field.name: values_of(field.type) for field in fields})
    return _generic(typing.get_origin(kind), typing.get_args(kind))


def _generic(origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    makers: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
        Annotated: lambda: _within(*arguments),
        Literal: lambda: st.sampled_from(arguments),
        Union: lambda: st.one_of([values_of(each) for each in arguments]),
        types.UnionType: lambda: st.one_of([values_of(each) for each in arguments]),
        list: lambda: st.lists(values_of(arguments[0]), max_size=3),
        tuple: lambda: st.lists(values_of(arguments[0]), max_size=3).map(tuple),
        dict: lambda: st.dictionaries(TEXT, values_of(arguments[1]), max_size=3),
    }
    return makers[origin]()


def _within(kind: type, bounds: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Numbers that a field's bounds allow, moments that have a zone."""
    if kind is datetime:
        return _PLAIN_TYPES[datetime]
    if kind is int:
        return st.integers(int(bounds.ge or INT64_MIN), int(bounds.le or INT64_MAX))
    return st.floats(bounds.ge, bounds.le, allow_nan=False, allow_infinity=False)


RESULTS = st.one_of([values_of(each) for each in typing.get_args(messages.ResultMessage)])
