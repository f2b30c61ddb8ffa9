"""Commands of others: whatever installed packages register under `tasker_zmq.commands`.

An entry point's name is the command's type, its object a Route. Source: docs/PROTOCOL.md, "Commands
of your own".
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from tasker_zmq.commands.router import ROUTES, Lane, Route
from tasker_zmq.errors import TaskerError

GROUP: Final = "tasker_zmq.commands"
NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]{1,59}")
# What a stranger may do: answer beside the engine, or behind results and the life of workers.
LANES: Final = frozenset({Lane.ENGINE_LATER, Lane.READER, Lane.OBSERVER, Lane.SNAPSHOT})


class CommandPluginError(TaskerError):
    """A registered command cannot be used."""


@cache
def routes() -> Mapping[str, Route]:
    """All routes of this process, found once; raises CommandPluginError."""
    return MappingProxyType({**ROUTES, **load(entry_points(group=GROUP))})


def load(found: Iterable[EntryPoint]) -> dict[str, Route]:
    """The routes that these entry points name; raises CommandPluginError."""
    loaded: dict[str, Route] = {}
    for each in sorted(found, key=lambda entry: entry.name):
        place = f"the entry point '{each.name}' ({each.value}) of {GROUP}"
        if not NAME.fullmatch(each.name):
            raise CommandPluginError(f"{place} is no name for a command; wanted: InspectOrders")
        if each.name in ROUTES or each.name in loaded:
            raise CommandPluginError(f"{place} would take a command that is there already")
        try:
            route = each.load()
        except Exception as error:
            raise CommandPluginError(f"{place} cannot be imported: {error!r}") from error
        if not isinstance(route, Route) or route.lane not in LANES:
            known = ", ".join(sorted(LANES))
            raise CommandPluginError(f"{place} is no Route in one of the lanes {known}: {route!r}")
        loaded[each.name] = route
    return loaded
