"""How urgent a task or a command is: a number, or a word that stands for one."""

from enum import IntEnum
from types import MappingProxyType
from typing import Final

PRIORITY_MAX: Final = 1_000_000
WORDS: Final = MappingProxyType({"low": -100, "normal": 0, "high": 100, "urgent": 1_000})
# Behind everything else, and among each other by their own priority.
BACKGROUND: Final = -2 * PRIORITY_MAX - 1


class Urgency(IntEnum):
    """The lines in which commands wait, the most urgent first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


def priority_number(given: int | str) -> int:
    """The number that is meant; raises ValueError with what is wanted."""
    if isinstance(given, str):
        if given not in WORDS:
            raise ValueError(f"the priority is '{given[:40]}'; wanted: a number, {_words()}")
        return WORDS[given]
    if abs(given) > PRIORITY_MAX:
        raise ValueError(f"the priority is {given}; wanted: -{PRIORITY_MAX} to {PRIORITY_MAX}")
    return given


def _words() -> str:
    *others, last = WORDS
    return f"{', '.join(others)} or {last}"


def urgency(priority: int) -> Urgency:
    """In which line a command of this priority waits."""
    if priority < 0:
        return Urgency.LOW
    if priority < WORDS["high"]:
        return Urgency.NORMAL
    return Urgency.HIGH if priority < WORDS["urgent"] else Urgency.URGENT
