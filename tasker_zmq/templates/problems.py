"""What is wrong with a template, and where; bad input is a value here, never an exception."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Final

from tasker_zmq.domain.template import TaskTemplate

Where = tuple[str | int, ...]

PROBLEMS_MAX: Final = 100
GUESSES_MAX: Final = 200  # comparing words costs more than reading them
SHOWN_CHARACTERS_MAX: Final = 60
COMPARED_CHARACTERS_MAX: Final = 128
KEPT_CHARACTERS_MAX: Final = 400
COMPARED_NAMES_MAX: Final = 2_000


@dataclass(frozen=True)
class Problem:
    """One finding; `line` counts from 1 and is None when the template did not come from text."""

    source: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class Loaded:
    """A template, or the problems that prevent one; warnings come with either."""

    template: TaskTemplate | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


class Findings:
    """Collects problems and warnings of one file, each once and at most a hundred of a kind."""

    def __init__(self, source: str, line_of: Callable[[Where], int | None]) -> None:
        self._source = source
        self._line_of = line_of
        self._problems: dict[Problem, None] = {}
        self._warnings: dict[str, Problem] = {}
        self._kept: dict[str, Where] = {}
        self._guesses = 0

    def refuse(self, where: Where, message: str) -> None:
        if not self.full:
            self._problems[self._problem(where, message)] = None

    def warn(self, where: Where, message: str) -> None:
        """Says `message` once, at the first place that it was said of."""
        if len(self._warnings) < PROBLEMS_MAX:
            self._warnings.setdefault(message, self._problem(where, message))

    def keep(self, where: Where) -> None:
        """Remembers a key that is kept but not used, for one warning per file."""
        if len(self._kept) < PROBLEMS_MAX:
            kind = clipped(re.sub(r"\[\d+\]", "[]", path_text(where)))
            self._kept.setdefault(kind, where)

    def guess(self, word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
        """`; did you mean 'x'?` when a known word is close, else nothing."""
        self._guesses += 1
        if len(word) > COMPARED_CHARACTERS_MAX or self._guesses > GUESSES_MAX:
            return ""
        found = get_close_matches(word, list(islice(known, COMPARED_NAMES_MAX)), 1, cutoff)
        return f"; did you mean '{found[0]}'?" if found else ""

    @property
    def full(self) -> bool:
        """Whether further problems are not kept, so that looking for them can stop."""
        return len(self._problems) >= PROBLEMS_MAX

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = tuple(self._problems)
        if not self.full:
            return found
        rest = f"not more than {PROBLEMS_MAX} problems are told; correct the ones above first"
        return (*found, Problem(self._source, None, "", rest))

    @property
    def warnings(self) -> tuple[Problem, ...]:
        said = tuple(self._warnings.values())
        if not self._kept:
            return said
        first = next(iter(self._kept.values()))
        keys = clipped(", ".join(self._kept), most=KEPT_CHARACTERS_MAX)
        return (*said, self._problem(first, f"kept but not used yet: {keys}"))

    def _problem(self, where: Where, message: str) -> Problem:
        return Problem(self._source, self._line_of(where), path_text(where), message)


def path_text(where: Where) -> str:
    """`steps[2].retry.max_attempts`, as people write it."""
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return clipped(parts.removeprefix("."), most=200)


def clipped(text: str, *, most: int = SHOWN_CHARACTERS_MAX) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value: object) -> str:
    """A value as a message shows it: its kind where that is the point, never more than a line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text '{clipped(value)}'" if value else "an empty text"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return clipped(str(value))
