"""A workflow as a picture: lanes of text for a terminal, Mermaid for a page.

In the text each step has a row, parents above children, and each lane leads down to one step:

    ● validate_order
    ├─╮
    ● │ reserve_inventory
    │ ● check_address
    ├─╯
    ● ship_order
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasker_zmq.domain import graph
from tasker_zmq.domain.template import TaskTemplate

ALIKE_MAX: Final = 6  # more steps with the same neighbours are drawn as one
LANES_MAX: Final = 24  # a wider picture is listed by levels

# (up, down, left, right) -> the stroke that joins them
_STROKES: Final = {
    (True, True, False, False): "│",
    (True, True, False, True): "├",
    (True, True, True, False): "┤",
    (True, True, True, True): "┼",
    (True, False, True, False): "╯",
    (True, False, False, True): "╰",
    (True, False, True, True): "┴",
    (False, True, True, False): "╮",
    (False, True, False, True): "╭",
    (False, True, True, True): "┬",
    (False, False, True, True): "─",
}


@dataclass(frozen=True)
class _Picture:
    """The graph to draw; alike steps stand behind one of them, with a label that names them."""

    names: tuple[str, ...]
    parents: dict[str, tuple[str, ...]]
    labels: dict[str, str]


def draw_text(template: TaskTemplate) -> str:
    """The steps as rows and lanes, without a newline at the end."""
    names = tuple(step.name for step in template.steps)
    parents = {step.name: step.depends_on for step in template.steps}
    rows = _rows(_folded(names, parents))
    return "\n".join(_level_rows(names, parents) if rows is None else rows)


def draw_mermaid(template: TaskTemplate) -> str:
    """A Mermaid flowchart, for a page that renders it."""
    ids = {step.name: f"s{index}" for index, step in enumerate(template.steps)}
    lines = ["flowchart TD"]
    lines += [f'    {ids[step.name]}["{step.name}"]' for step in template.steps]
    lines += [
        f"    {ids[parent]} --> {ids[step.name]}"
        for step in template.steps
        for parent in step.depends_on
    ]
    return "\n".join(lines)


def _folded(names: tuple[str, ...], parents: graph.Parents) -> _Picture:
    """Puts many steps with the same parents and the same children into one."""
    below = graph.children(names, parents)
    alike: dict[tuple[frozenset[str], tuple[str, ...]], list[str]] = {}
    for name in names:
        alike.setdefault((frozenset(parents[name]), below[name]), []).append(name)
    stands_for = {name: name for name in names}
    labels = {name: name for name in names}
    for group in alike.values():
        if len(group) > ALIKE_MAX:
            stands_for |= dict.fromkeys(group, group[0])
            labels[group[0]] = _many(group)
    drawn = tuple(name for name in names if stands_for[name] == name)
    return _Picture(
        names=drawn,
        parents={
            name: tuple(dict.fromkeys(stands_for[parent] for parent in parents[name]))
            for name in drawn
        },
        labels=labels,
    )


def _many(names: Sequence[str]) -> str:
    return f"{names[0]}, {names[1]} ... {names[-1]} ({len(names)} steps side by side)"


def _level_rows(names: tuple[str, ...], parents: graph.Parents) -> list[str]:
    rows = []
    for number, level in enumerate(graph.levels(names, parents), start=1):
        line = _many(level) if len(level) > ALIKE_MAX else ", ".join(level)
        rows.append(f"level {number}: {line}")
    return rows


def _rows(picture: _Picture) -> list[str] | None:
    """One row per step and the strokes between them; None when it gets too wide to read."""
    below = graph.children(picture.names, picture.parents)
    waiting = {name: len(picture.parents[name]) for name in picture.names}
    roots = [name for name in reversed(picture.names) if not waiting[name]]
    lanes: list[str | None] = []
    rows: list[str] = []
    for _ in picture.names:
        ready = (name for name in lanes if name is not None and not waiting[name])
        name = next(ready, None)
        if name is None:
            name = roots.pop()
            _take_lane(lanes, name)
        column = lanes.index(name)
        for child in below[name]:
            waiting[child] -= 1
        if len(below[name]) + len(lanes) > LANES_MAX:
            return None
        rows.append(_step_row(lanes, column, picture.labels[name]))
        strokes = _moved_on(lanes, column, below[name])
        if strokes:
            rows.append(strokes)
    return rows


def _take_lane(lanes: list[str | None], name: str) -> int:
    """The first free lane, or a new one at the right."""
    for column, target in enumerate(lanes):
        if target is None:
            lanes[column] = name
            return column
    lanes.append(name)
    return len(lanes) - 1


def _step_row(lanes: Sequence[str | None], column: int, label: str) -> str:
    marks = ["●" if at == column else " " if lane is None else "│" for at, lane in enumerate(lanes)]
    return f"{' '.join(marks).rstrip()} {label}"


def _moved_on(lanes: list[str | None], column: int, below: Sequence[str]) -> str:
    """Leads the lane of a drawn step on to its children; returns the strokes of that."""
    before = [lane is not None for lane in lanes]
    lanes[column] = None
    fresh = [child for child in below if child not in lanes]
    if fresh:
        lanes[column] = fresh[0]
    joined = {lanes.index(child) for child in below if child in lanes}
    joined |= {_take_lane(lanes, child) for child in fresh[1:]}
    before += [False] * (len(lanes) - len(before))
    after = [lane is not None for lane in lanes]
    while lanes and lanes[-1] is None:
        lanes.pop()
    if not below:
        return ""
    low, high = min(joined | {column}), max(joined | {column})
    cells = []
    for at in range(len(after)):
        touches = at == column or at in joined
        left, right = low < at <= high, low <= at < high
        if not touches and before[at] and after[at]:
            left = right = False  # a lane that only crosses
        cells.append(_STROKES.get((before[at], after[at], left, right), " "))
        cells.append("─" if low <= at < high else " ")
    return "".join(cells).rstrip()
