"""Which of the sessions that can run a step gets it: strategies, pure functions all of them.

A strategy of one's own is a function of the same form under the entry point group
`tasker_zmq.selection`; see docs/OPERATIONS.md.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tasker_zmq.domain.supported import PRIORITY

Key = TypeVar("Key", bound=Hashable)


class Candidate(NamedTuple, Generic[Key]):  # thousands are made in a tick: a dataclass takes thrice
    """A session with room: steps in hand, steps at once, and how many more it may be sent.

    `priority` is what its worker declared for the named task; `last_turn` rises with each choice of
    the core, and is the one in which this session was chosen last.
    """

    key: Key
    holding: int
    concurrency: int
    room: int
    priority: int = PRIORITY
    last_turn: int = 0


Strategy = Callable[[Sequence[Candidate[Any]], int], Sequence[Any]]


def least_loaded(candidates: Sequence[Candidate[Key]], steps: int) -> list[Key]:
    """The session of each of up to `steps` steps: always the one with the least load per slot.

    Shorter than `steps` when the room is used up; ties go to the higher priority, then to the
    candidate that stands first.
    """
    heap = [
        (each.holding / max(1, each.concurrency), -each.priority, place, each.holding)
        for place, each in enumerate(candidates)
        if each.room > 0
    ]
    heapq.heapify(heap)
    given: dict[int, int] = {}
    chosen: list[Key] = []
    while heap and len(chosen) < steps:
        _, priority, place, holding = heapq.heappop(heap)
        candidate = candidates[place]
        chosen.append(candidate.key)
        given[place] = given.get(place, 0) + 1
        if given[place] < candidate.room:
            load = (holding + 1) / max(1, candidate.concurrency)
            heapq.heappush(heap, (load, priority, place, holding + 1))
    return chosen


def round_robin(candidates: Sequence[Candidate[Key]], steps: int) -> list[Key]:
    """One step for each session in turn, whatever its load; who was chosen longest ago begins."""
    waiting = sorted(candidates, key=lambda each: each.last_turn)
    left = {place: each.room for place, each in enumerate(waiting)}
    chosen: list[Key] = []
    while len(chosen) < steps:
        before = len(chosen)
        for place, each in enumerate(waiting):
            if left[place] > 0 and len(chosen) < steps:
                left[place] -= 1
                chosen.append(each.key)
        if len(chosen) == before:
            break
    return chosen


def by_priority(candidates: Sequence[Candidate[Key]], steps: int) -> list[Key]:
    """Sessions of a higher priority first, until they have no room; equal ones by their load."""
    chosen: list[Key] = []
    for priority in sorted({each.priority for each in candidates}, reverse=True):
        equal = [each for each in candidates if each.priority == priority]
        chosen += least_loaded(equal, steps - len(chosen))
    return chosen


LEAST_LOADED: Final = "least_loaded"
STRATEGIES: Final[Mapping[str, Strategy]] = {
    LEAST_LOADED: least_loaded,
    "round_robin": round_robin,
    "priority": by_priority,
}


def select(
    strategy: Strategy, candidates: Sequence[Candidate[Key]], steps: int
) -> tuple[list[Key], str | None]:
    """What a strategy chooses; the least loaded instead, with the reason, if it chose nonsense.

    A strategy of somebody's own must not be able to stop a daemon.
    """
    chosen: list[Key] = []
    try:
        chosen += strategy(candidates, steps)
        problem = _problem(candidates, chosen, steps)
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises
        problem = f"it raised {error!r}"
    if problem is None:
        return chosen, None
    return least_loaded(candidates, steps), problem


def _problem(candidates: Sequence[Candidate[Key]], chosen: Sequence[Key], steps: int) -> str | None:
    if len(chosen) > steps:
        return f"{len(chosen)} chosen for {steps} steps"
    rooms = {each.key: each.room for each in candidates}
    for key, count in Counter(chosen).items():
        if count > rooms.get(key, 0):
            return f"'{key}' chosen {count} times, with room for {rooms.get(key, 0)}"
    return None
