"""Which of the sessions that can run a step gets it."""

import heapq
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Candidate(Generic[Key]):
    """A session with room: steps in hand, steps at once, and how many more it may be sent."""

    key: Key
    holding: int
    concurrency: int
    room: int


def least_loaded(candidates: Sequence[Candidate[Key]], steps: int) -> list[Key]:
    """The session of each of up to `steps` steps: always the one with the least load per slot.

    Shorter than `steps` when the room is used up; ties go to the candidate that stands first.
    """
    heap = [
        (each.holding / max(1, each.concurrency), place, each.holding)
        for place, each in enumerate(candidates)
        if each.room > 0
    ]
    heapq.heapify(heap)
    given: dict[int, int] = {}
    chosen: list[Key] = []
    while heap and len(chosen) < steps:
        _, place, holding = heapq.heappop(heap)
        candidate = candidates[place]
        chosen.append(candidate.key)
        given[place] = given.get(place, 0) + 1
        if given[place] < candidate.room:
            load = (holding + 1) / max(1, candidate.concurrency)
            heapq.heappush(heap, (load, place, holding + 1))
    return chosen
