"""How steps for one session are packed into batches, and how long a batch may take."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

Step = TypeVar("Step")


def pack(
    steps: Iterable[Step], *, size: Callable[[Step], int], steps_max: int, bytes_max: int
) -> list[list[Step]]:
    """Batches in order, each of at most `steps_max` steps and `bytes_max` bytes.

    A step larger than `bytes_max` stands alone: the caller decides what becomes of it.
    """
    batches: list[list[Step]] = []
    filled = 0
    for step in steps:
        weight = size(step)
        if not batches or len(batches[-1]) >= steps_max or filled + weight > bytes_max:
            batches.append([])
            filled = 0
        batches[-1].append(step)
        filled += weight
    return batches


def batch_timeout_seconds(
    *, step_timeout_seconds: float, steps_ahead: int, concurrency: int, grace_seconds: float
) -> int:
    """How long the daemon waits for a batch: its steps may queue behind others in the worker.

    `steps_ahead` counts the batch's own steps and those that the worker already has in hand.
    """
    rounds = math.ceil(steps_ahead / max(1, concurrency))
    return math.ceil(step_timeout_seconds * max(1, rounds) + grace_seconds)
