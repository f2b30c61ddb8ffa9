"""Environment variables as a layer; the only place where the process's own are read."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings.catalogue import CATALOGUE
from tasker_zmq.settings.document import read_text
from tasker_zmq.settings.layers import Layer
from tasker_zmq.settings.setting import Setting

CONFIG: Final = "TASKER_CONFIG"
DEBUG: Final = "TASKER_DEBUG"
_PREFIX: Final = "TASKER_"
_TEST_PREFIX: Final = "TASKER_TEST_"
_FILE: Final = "_FILE"
_SECRET_BYTES_MAX: Final = 1 << 16


def process_variables() -> dict[str, str]:
    """The variables this process was started with."""
    return dict(os.environ)


def variables_layer(variables: Mapping[str, str]) -> Layer:
    """What the variables set; unknown ones of our prefix are warned about, not refused."""
    layer = Layer()
    for setting in CATALOGUE:
        if setting.key != "environment":  # it was needed, and read, before any layer
            _take(layer, setting, variables)
    for name in variables:
        if name.startswith(_PREFIX) and not name.startswith(_TEST_PREFIX):
            layer.warnings += _unknown_variable(name)
    return layer


def _take(layer: Layer, setting: Setting, variables: Mapping[str, str]) -> None:
    for name in (setting.variable, *setting.fallback_variables):
        try:
            found = _value_of(name, variables)
        except SettingsError as problem:
            layer.problems.append(str(problem))
            return
        if found is not None:
            value, origin = found
            layer.take(setting.key, value, origin=origin)
            return


def _value_of(name: str, variables: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable, or the file that NAME_FILE names, and which of them; empty is not set."""
    value, file = variables.get(name), variables.get(name + _FILE)
    if value and file:
        raise SettingsError(f"{name} and {name}{_FILE} are both set; keep one of them")
    if value:
        return value, name
    if file:
        origin = f"{name}{_FILE}"
        text = read_text(Path(file), bytes_max=_SECRET_BYTES_MAX, what=f"the file of {origin}")
        return text.rstrip("\r\n"), origin
    return None


def _unknown_variable(name: str) -> list[str]:
    settable = [
        each for setting in CATALOGUE for each in (setting.variable, *setting.fallback_variables)
    ]
    known = (CONFIG, DEBUG, *settable)
    if name in known or name.removesuffix(_FILE) in settable:
        return []
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    way_out = f"; did you mean {close[0]}?" if close else ""
    return [f"unknown variable {name} has no effect{way_out}"]
