"""Annotated parameters: JSON values as dataclasses, structs, TypedDicts or pydantic models."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

import msgspec

from tasker_zmq.errors import PermanentError

Convert = Callable[[Any, str], Any]


def converter_for(annotation: object) -> Convert | None:
    """How a value becomes what `annotation` asks for; None when plain JSON is what it asks for."""
    validate = getattr(annotation, "model_validate", None)
    if isinstance(annotation, type) and callable(validate):
        return _by_pydantic(annotation, validate)
    if _names_a_model(annotation):
        return _by_msgspec(annotation)
    return None


def _names_a_model(annotation: object) -> bool:
    if typing.is_typeddict(annotation):
        return True
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return dataclasses.is_dataclass(annotation) or issubclass(annotation, msgspec.Struct)
    if get_origin(annotation) in {list, tuple, set, frozenset, dict, Union, types.UnionType}:
        return any(_names_a_model(each) for each in get_args(annotation))
    return False


def _by_msgspec(annotation: Any) -> Convert:
    def convert(value: Any, name: str) -> Any:
        try:
            return msgspec.convert(value, annotation)
        except msgspec.ValidationError as error:
            raise _unfit(name, annotation, str(error)) from None

    return convert


def _by_pydantic(annotation: type, validate: Callable[[Any], Any]) -> Convert:
    def convert(value: Any, name: str) -> Any:
        try:
            return validate(value)
        except ValueError as error:  # pydantic's ValidationError is one
            raise _unfit(name, annotation, str(error)) from None

    return convert


def _unfit(name: str, annotation: object, detail: str) -> PermanentError:
    wanted = getattr(annotation, "__name__", str(annotation))
    return PermanentError(f"'{name}' is not a {wanted}: {detail}")
