"""Writes the generated pages; with --check it only says which of them are old."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tasker_zmq.domain.states import BATCH, STEP, TASK, Machine
from tasker_zmq.settings import reference

DOCS: Final = Path(__file__).resolve().parent
MACHINES: Final[tuple[Machine[Any, Any], ...]] = (STEP, TASK, BATCH)
STATES_HEAD: Final = """\
# States

Written by `make docs` from `tasker_zmq/domain/states.py`; edit that, not this page.

A row moves only along these arrows, and only if it still is where the arrow starts. Each move adds
a row to the noun's transitions. What a worker says of a step (completed, failed, in progress) is a
result status, not a state; `tasker_zmq/domain/results.py` is where the one leads to the other.
"""


def states() -> str:
    """The three machines, each as a picture and as a table."""
    return "\n".join([STATES_HEAD, *(line for each in MACHINES for line in _machine(each))])


def _machine(machine: Machine[Any, Any]) -> Iterator[str]:
    yield f"## {machine.noun.capitalize()}\n"
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {machine.initial}"
    for (before, event), after in machine.arrows.items():
        yield f"    {before} --> {after}: {event}"
    ends = [state for state in machine.states if state in machine.terminal]
    for state in ends:
        yield f"    {state} --> [*]"
    yield "```\n"
    yield "| From | Event | To |"
    yield "|---|---|---|"
    for state in machine.states:
        for event in machine.allowed(state):
            yield f"| `{state}` | {event} | `{machine.after(state, event)}` |"
    yield f"\nTerminal: {', '.join(f'`{state}`' for state in ends)}.\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "STATES.md": states,
    "SETTINGS.md": reference.markdown,
}


def old_pages() -> list[str]:
    """The pages that are not what they would be if written now."""
    return [
        name
        for name, write in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != write()
    ]


def main() -> int:
    old = old_pages()
    if "--check" in sys.argv[1:]:
        for name in old:
            sys.stderr.write(f"docs/{name} is old; run `make docs`\n")
        return 1 if old else 0
    for name in old:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        sys.stdout.write(f"wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
