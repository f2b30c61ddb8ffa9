"""Workers whose links to the daemon go through proxies, which a test may cut, stall or break.

The daemon binds steps and results under paths relative to its folder; a worker, in a folder of its
own, finds the proxies under the same names.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tasker_zmq.cli.chaotic.proxy import Proxy, Side

__all__ = ["LINKS", "RELATIVE", "TO_PROXIES", "Proxy", "Side", "linked"]

LINKS: Final = ("steps", "results", "commands")
RELATIVE: Final[Mapping[str, str]] = {  # for the daemon
    f"TASKER_ENDPOINTS_{name.upper()}": f"ipc://{name}" for name in ("steps", "results")
}
TO_PROXIES: Final[Mapping[str, str]] = {"TASKER_COMMANDS": "ipc://commands"}  # for the worker


@contextmanager
def linked(near: Path, far: Path, *, commands: str) -> Iterator[dict[str, Proxy]]:
    """Proxies in the worker's folder `near` to a daemon in `far` that takes `commands` there."""
    far_ends = {name: f"ipc://{far / name}" for name in LINKS} | {"commands": commands}
    found = {name: Proxy(f"ipc://{near / name}", far_ends[name]) for name in LINKS}
    for each in found.values():
        each.start()
    try:
        yield found
    finally:
        for each in found.values():
            each.stop()
