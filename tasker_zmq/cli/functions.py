"""The functions that a daemon may be asked to call: imported at its start, as its settings say."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tasker_zmq.errors import SettingsError


def load_functions(entries: tuple[str, ...]) -> Mapping[str, Callable[..., Any]]:
    """By name, from entries like `name=module:function`; SettingsError for what is not there."""
    return {name: _loaded(name, target) for name, target in map(_parts, entries)}


def _parts(entry: str) -> tuple[str, str]:
    name, _, target = entry.partition("=")
    return name, target


def _loaded(name: str, target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"'call.functions' names {target} for '{name}', which cannot be imported: {error}; "
            "correct it, or set PYTHONPATH to where the module is"
        ) from error
    if not callable(found):
        raise SettingsError(f"'call.functions' names {target} for '{name}', which is no function")
    function: Callable[..., Any] = found
    return function
