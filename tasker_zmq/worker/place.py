"""Where in somebody's source a definition stands, for messages that can be clicked."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

from tasker_zmq.errors import HandlerDefinitionError


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("<unknown>", 0)


def place_of(frame: FrameType | None) -> Place:
    """The line that `frame` is executing now."""
    if frame is None:
        return NOWHERE
    return Place(frame.f_code.co_filename, frame.f_lineno)


def refusal(place: Place, problem: str) -> HandlerDefinitionError:
    """The error for a definition that cannot be used; it begins with file and line."""
    return HandlerDefinitionError(f"{place}: {problem}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known word, else all of them, else nothing."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:12])
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""  # noqa: PLR2004
    return f"; known: {shown}{more}"
