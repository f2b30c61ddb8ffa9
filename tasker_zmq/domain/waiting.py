"""Why a step that may be sent is not: what each of the workers that know it lacks."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.supported import NOTHING_DECLARED, Declared

NAMED_MAX: Final = 4  # more of a kind are counted, not named
_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six")
BUSY: Final = "busy"
OPEN: Final = "behind an open breaker"
HALF_OPEN: Final = "behind a half open breaker (one step at a time)"


@dataclass(frozen=True, kw_only=True)
class LiveSession:
    """A connected worker: what it runs, whether it takes more work, and what keeps it from that.

    `next_tries` are of handlers with a breaker that is open; None: it is half open.
    """

    worker: str
    handlers: frozenset[str]
    has_room: bool
    core_id: str | None = None
    mode: WorkerMode = WorkerMode.ENABLED
    silent: bool = False  # nothing was heard of it for a while
    deaf: bool = False  # what this core publishes does not reach it
    not_reached_by: frozenset[str] = frozenset()  # cores that lately found so
    declared: Declared = NOTHING_DECLARED
    next_tries: Mapping[str, datetime | None] = field(default_factory=dict)

    def runs(self, handler_class: str) -> bool:
        """Whether it has the handler, or takes whatever is of the tasks that it declared."""
        return handler_class in self.handlers or (self.declared.exclusive and not self.handlers)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A step that may be sent, by the core that owns its task; `pinned_to` are workers' names."""

    handler_class: str
    named_task: TaskName | None = None
    core_id: str | None = None
    pinned_to: frozenset[str] | None = None


def why_not_sent(wanted: Wanted, sessions: Sequence[LiveSession]) -> str:
    """The end of a sentence that begins with `charge is ready`."""
    if wanted.pinned_to is not None:
        return _of_pinned(wanted, wanted.pinned_to, sessions)
    able = [each for each in sessions if each.runs(wanted.handler_class)]
    if not able:
        return _of_nobody(wanted.handler_class, sessions)
    task = wanted.named_task
    taking = [each for each in able if task is None or each.declared.allows(task)]
    if not taking:
        names = listed(sorted({each.worker for each in able}))
        return f", but the workers that run '{wanted.handler_class}' take other workflows ({names})"
    return _of_these(wanted, _troubles(wanted, taking)) or _of_breakers(wanted, taking)


def _of_these(wanted: Wanted, troubles: dict[str, str | None]) -> str:
    """Nothing when an open breaker is all that there is to say."""
    if None in troubles.values():
        return " and about to be sent"
    if set(troubles.values()) == {BUSY}:
        names = listed(sorted(troubles))
        return f", but every worker that runs '{wanted.handler_class}' is busy ({names})"
    if all((each or "").startswith(OPEN) for each in troubles.values()):
        return ""
    return f", but {_knowing(len(troubles))}: {_told(troubles)}"


def _knowing(workers: int) -> str:
    return f"{number(workers)} {'worker knows' if workers == 1 else 'workers know'} it"


def _of_breakers(wanted: Wanted, sessions: Iterable[LiveSession]) -> str:
    """Why a step that everybody failed with waits, and until when."""
    tries = {each.worker: each.next_tries.get(wanted.handler_class) for each in sessions}
    count = len(tries)
    whose = {1: "its breaker is", 2: "both breakers are"}.get(
        count, f"all {number(count)} breakers are"
    )
    soonest = min(each for each in tries.values() if each is not None)
    return f", but {_knowing(count)}: {whose} open, next try {_clock(soonest)}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"


def _of_pinned(wanted: Wanted, names: frozenset[str], sessions: Sequence[LiveSession]) -> str:
    there = [each for each in sessions if each.worker in names]
    having = [each for each in there if each.runs(wanted.handler_class)]
    troubles: dict[str, str | None] = dict.fromkeys(sorted(names), "not connected")
    for each in there:
        troubles[each.worker] = f"without a handler '{wanted.handler_class}'"
    troubles.update(_troubles(wanted, having))
    if None in troubles.values():
        return " and about to be sent"
    return f", but pinned to {listed(sorted(names))}: {_told(troubles)}"


def _of_nobody(handler_class: str, sessions: Sequence[LiveSession]) -> str:
    if not sessions:
        return ", but no worker is connected: start one with `tasker-worker TARGET`"
    known = {name: session.worker for session in sessions for name in session.handlers}
    near = difflib.get_close_matches(handler_class, sorted(known), n=1)
    nearest = f" (the nearest is '{near[0]}' on {known[near[0]]})" if near else ""
    return f", but no connected worker runs handler '{handler_class}'{nearest}"


def _troubles(wanted: Wanted, sessions: Iterable[LiveSession]) -> dict[str, str | None]:
    """By worker, what keeps it from the step; None: nothing does."""
    found: dict[str, str | None] = {}
    for each in sessions:
        trouble = _trouble(wanted, each)
        here = wanted.core_id in {None, each.core_id}
        if each.worker not in found or here:  # a session at the owner says more than others
            found[each.worker] = trouble
    return found


def _trouble(wanted: Wanted, session: LiveSession) -> str | None:
    if session.mode is not WorkerMode.ENABLED:
        return str(session.mode)
    if session.core_id is not None and wanted.core_id not in {None, session.core_id}:
        tried = wanted.core_id in session.not_reached_by
        return f"not {'reachable from' if tried else 'connected to'} {wanted.core_id}"
    if session.deaf:
        return "deaf"
    if session.silent:
        return "silent"
    if wanted.handler_class in session.next_tries:
        next_try = session.next_tries[wanted.handler_class]
        return HALF_OPEN if next_try is None else f"{OPEN} (next try {_clock(next_try)})"
    return None if session.has_room else BUSY


def _told(troubles: dict[str, str | None]) -> str:
    by_trouble: dict[str, list[str]] = {}
    for worker in sorted(troubles):
        by_trouble.setdefault(troubles[worker] or "", []).append(worker)
    return ", ".join(
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} {trouble}"
        for trouble, names in by_trouble.items()
    )


def number(count: int) -> str:
    """Small numbers as words."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; of many the first few, and how many more."""
    more = len(names) - NAMED_MAX
    shown = [*names[:NAMED_MAX], f"{more} more"] if more > 0 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
