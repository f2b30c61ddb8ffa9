"""Strategies of selection by name: the built-in ones, and those that installed packages bring."""

import difflib
from importlib.metadata import entry_points
from typing import Final

from tasker_zmq.domain.selection import STRATEGIES, Strategy
from tasker_zmq.errors import SettingsError

GROUP: Final = "tasker_zmq.selection"


def strategy_of(name: str) -> Strategy:
    """The strategy of that name; raises SettingsError that says which there are.

    The built-in names are nobody else's.
    """
    built_in = STRATEGIES.get(name)
    if built_in is not None:
        return built_in
    found = {each.name: each for each in entry_points(group=GROUP)}
    if name not in found:
        known = sorted({*STRATEGIES, *found})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        raise SettingsError(f"dispatch.strategy is '{name}', which is none; {hint}")
    try:
        loaded = found[name].load()
    except Exception as error:
        raise SettingsError(
            f"dispatch.strategy '{name}' ({found[name].value}) cannot be imported: {error!r}"
        ) from error
    if not callable(loaded):
        raise SettingsError(
            f"dispatch.strategy '{name}' ({found[name].value}) is no function; wanted one of "
            "candidates and a number of steps"
        )
    strategy: Strategy = loaded
    return strategy
