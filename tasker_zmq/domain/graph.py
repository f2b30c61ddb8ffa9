"""Graphs of steps as pure functions: `parents` says for each name which names it waits for.

Every function expects parents to be among `names`; the order of `names` breaks ties, so that the
same workflow always gives the same answer.
"""

import heapq
from collections.abc import Mapping, Sequence

Parents = Mapping[str, Sequence[str]]


def children(names: Sequence[str], parents: Parents) -> dict[str, tuple[str, ...]]:
    """For each name the names that wait for it, in the order of `names`."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for parent in dict.fromkeys(parents.get(name, ())):
            found[parent].append(name)
    return {name: tuple(waiting) for name, waiting in found.items()}


def cycle(names: Sequence[str], parents: Parents) -> tuple[str, ...] | None:
    """One circle of names, each waiting for the one before it, the first repeated at the end."""
    finished: set[str] = set()
    for start in names:
        if start in finished:
            continue
        road: list[str] = [start]
        on_road = {start}
        turns = [iter(parents.get(start, ()))]
        while turns:
            parent = next(turns[-1], None)
            if parent is None:
                turns.pop()
                name = road.pop()
                on_road.discard(name)
                finished.add(name)
            elif parent in on_road:
                circle = [*road[road.index(parent) :], parent]
                return tuple(reversed(circle))
            elif parent not in finished:
                road.append(parent)
                on_road.add(parent)
                turns.append(iter(parents.get(parent, ())))
    return None


def topological_order(names: Sequence[str], parents: Parents) -> tuple[str, ...]:
    """Parents before children, else in the order of `names`; names of a cycle are left out."""
    rank = {name: index for index, name in enumerate(names)}
    waiting = {name: len(set(parents.get(name, ()))) for name in names}
    below = children(names, parents)
    ready = [rank[name] for name in names if not waiting[name]]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for child in below[name]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, rank[child])
    return tuple(order)


def sinks(names: Sequence[str], parents: Parents) -> tuple[str, ...]:
    """The names that nobody waits for: a task ends with them."""
    below = children(names, parents)
    return tuple(name for name in names if not below[name])


def levels(names: Sequence[str], parents: Parents) -> tuple[tuple[str, ...], ...]:
    """The names by the longest road that leads to them; a level can run side by side."""
    depth: dict[str, int] = {}
    for name in topological_order(names, parents):
        depth[name] = max((depth[parent] + 1 for parent in parents.get(name, ())), default=0)
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in names:
        if name in depth:
            rows[depth[name]].append(name)
    return tuple(tuple(row) for row in rows)
