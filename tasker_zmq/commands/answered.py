"""What commands that must not be carried out twice were answered, of late.

Whoever hears no answer asks again under the same `command_id`: the answer is then the same, and
nothing happens a second time. What was answered before this process began is forgotten.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

ANSWERS_MAX: Final = 10_000
BYTES_MAX: Final = 8 << 20


class Answered:
    """The newest answers by command id, bounded in number and in bytes."""

    def __init__(self, *, answers_max: int = ANSWERS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._answers_max, self._bytes_max = answers_max, bytes_max
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, command_id: str) -> bytes | None:
        return self._answers.get(command_id)

    def keep(self, answers: Mapping[str, bytes]) -> None:
        """Remember these; the oldest go when there are too many."""
        for command_id, body in answers.items():
            self._bytes += len(body) - len(self._answers.pop(command_id, b""))
            self._answers[command_id] = body
        while len(self._answers) > self._answers_max or self._bytes > self._bytes_max:
            _, body = self._answers.popitem(last=False)
            self._bytes -= len(body)
