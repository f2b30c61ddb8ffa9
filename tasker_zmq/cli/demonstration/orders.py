"""The orders of the shipped file, as many as wanted, and what is expected to become of them."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tasker_zmq.domain.states import TaskState

QUANTITY_MAX: Final = 5


@dataclass(frozen=True, kw_only=True)
class DemoOrder:
    """A task's context, and the state and number of retries that the file expects of it."""

    context: Mapping[str, Any]
    state: TaskState
    retries: int

    @property
    def order_id(self) -> str:
        return str(self.context["order_id"])

    @property
    def is_filled(self) -> bool:
        return self.state is TaskState.COMPLETE


def read_orders(path: Path) -> tuple[DemoOrder, ...]:
    """The orders in the file."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        DemoOrder(
            context=each["order"],
            state=TaskState(each["expected"]["state"]),
            retries=each["expected"]["retries"],
        )
        for each in entries
    )


def chosen(shipped: Sequence[DemoOrder], count: int, *, seed: int | None) -> tuple[DemoOrder, ...]:
    """The first `count` orders; beyond the file's end they come again with other quantities.

    With a seed they are submitted in another order too; the same seed means the same orders.
    """
    dice = random.Random(seed or 0)  # noqa: S311 - a repeatable choice, no secret
    found = [
        shipped[number] if number < len(shipped) else _again(shipped, number, dice)
        for number in range(count)
    ]
    if seed is not None:
        dice.shuffle(found)
    return tuple(found)


def _again(shipped: Sequence[DemoOrder], number: int, dice: random.Random) -> DemoOrder:
    turn, place = divmod(number, len(shipped))
    former = shipped[place]
    lines = [each | {"quantity": dice.randint(1, QUANTITY_MAX)} for each in former.context["lines"]]
    changed = {"order_id": f"{former.order_id}-{turn + 1}", "lines": lines}
    return replace(former, context={**former.context, **changed})


def expected_states(orders: Sequence[DemoOrder]) -> dict[str, int]:
    """How many tasks should end in which state."""
    return dict(Counter(each.state.value for each in orders))
