"""Who goes first when there are fewer places than steps: groups take turns, and so do their lines.

A group is a namespace; its lines are the kinds of steps that wait in it. Nobody waits for long
because another has more waiting.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

Step = TypeVar("Step")


class Places(Protocol):
    """Places that lines share."""

    def take(self) -> bool:
        """Take one; False when none is left."""


@dataclass(frozen=True)
class Line(Generic[Step]):
    """Steps of one kind in their order, and the places that they may have."""

    group: Hashable
    name: Hashable
    steps: Iterator[Step]
    places: Places


@dataclass
class Turns:
    """When each group and each line had its last turn: who has waited longest comes first."""

    count: int = 0
    last: dict[Hashable, int] = field(default_factory=dict)

    def note(self, taken: Mapping[Hashable, int]) -> None:
        """Remember the turns that were taken."""
        self.last.update(taken)
        self.count = max(self.count, *taken.values()) if taken else self.count


@dataclass
class Taken(Generic[Step]):
    """The steps that got a place, and the turns that this took."""

    steps: list[Step] = field(default_factory=list)
    turns: dict[Hashable, int] = field(default_factory=dict)


def take_turns(lines: Iterable[Line[Step]], turns: Turns, *, at_most: int) -> Taken[Step]:
    """One step of each group in turn, until places or steps are used up.

    Within a group its lines take turns in the same way.
    """
    taken: Taken[Step] = Taken()
    number = turns.count
    waiting = _in_order(lines, turns.last)
    while waiting and len(taken.steps) < at_most:
        group = waiting.popleft()
        while group:
            line = group.popleft()
            step = next(line.steps, None)
            if step is None or not line.places.take():
                continue  # this line is over
            taken.steps.append(step)
            number += 1
            taken.turns[line.group] = taken.turns[line.group, line.name] = number
            group.append(line)
            waiting.append(group)
            break
    return taken


def _in_order(
    lines: Iterable[Line[Step]], last: Mapping[Hashable, int]
) -> "deque[deque[Line[Step]]]":
    groups: dict[Hashable, list[Line[Step]]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    return deque(
        deque(sorted(groups[group], key=lambda line: last.get((line.group, line.name), 0)))
        for group in sorted(groups, key=lambda group: last.get(group, 0))
    )
