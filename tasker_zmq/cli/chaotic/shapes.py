"""What each workflow of the load should come to, told without a look at what the engine recorded.

The workflows themselves, as workers run them, are in tasker_zmq.cli.chaotic.load.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = "chaos"
VERSION: Final = "1.0.0"
LEAVES: Final = tuple(f"leaf_{number}" for number in range(1, 9))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A workflow; `runs` tells for each step that is to end how often it has to run for that."""

    name: str
    weight: int
    runs: Mapping[str, int]
    fails: frozenset[str] = frozenset()  # steps that end as failed
    unreached: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()  # steps that must not run twice

    @property
    def state(self) -> str:
        """The state in which a task ends."""
        return "error" if self.fails else "complete"


def _once_each(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


SHAPES: Final[Mapping[str, Shape]] = {
    each.name: each
    for each in (
        Shape(name="chain", weight=3, runs=_once_each("first", "second", "third", "fourth")),
        Shape(name="diamond", weight=3, runs=_once_each("first", "left", "right", "join")),
        Shape(name="fan", weight=1, runs=_once_each("first", *LEAVES, "gather")),
        Shape(name="stumbling", weight=2, runs={"first": 1, "stumble": 2, "recovered": 1}),
        Shape(
            name="doomed",
            weight=1,
            runs=_once_each("first", "refuse"),
            fails=frozenset({"refuse"}),
            unreached=frozenset({"unreached"}),
        ),
        Shape(
            name="careful",
            weight=2,
            runs=_once_each("first", "once", "afterwards"),
            once=frozenset({"once"}),
        ),
    )
}


def drawn(dice: random.Random) -> Shape:
    """Some shape, the heavier ones more often."""
    shapes = list(SHAPES.values())
    return dice.choices(shapes, weights=[each.weight for each in shapes])[0]
