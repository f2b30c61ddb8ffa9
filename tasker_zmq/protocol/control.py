"""Commands with which people decide: about dead letters, steps and tasks.

One command deals with one page: at most CONTROLLED_MAX ids or steps. Its answer's `after_id` asks
for the rest: send the same again with it, until it is null. Who stops half-way has done half of it.
"""

from typing import Final

import msgspec

from tasker_zmq.domain.control import LetterAction, StepAction, TaskAction

CONTROLLED_MAX: Final = 1_000
NULL: Final = msgspec.Raw(b"null")


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; every condition is optional, all of them must hold."""

    reason: str | None = None
    task_id: int | None = None
    namespace: str | None = None
    workflow: str | None = None  # its name
    version: str | None = None
    step: str | None = None  # its name
    fingerprint: str | None = None
    status: str | None = None
    since: str | None = None  # ISO 8601


class DecideDeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Close open dead letters: those with the ids, or without ids all that the filter matches."""

    action: LetterAction
    why: str
    by: str | None = None  # the command's source when left out
    dead_letter_ids: tuple[int, ...] = ()
    filter: DeadLetterFilter | None = None
    results: msgspec.Raw = NULL  # with resolve: what children are given, to the byte
    after_id: int = 0
    up_to_id: int | None = None  # letters that came later are left alone


class ControlSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Retry, resolve or cancel these steps."""

    action: StepAction
    step_ids: tuple[int, ...]
    why: str
    by: str | None = None
    results: msgspec.Raw = NULL
    after_id: int = 0


class ControlTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Cancel, pause, resume or retry these tasks; `after_id` is a step's."""

    action: TaskAction
    task_ids: tuple[int, ...]
    why: str
    by: str | None = None
    after_id: int = 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One letter, step or task that is left as it was; `code` is refused or not_found."""

    id: int
    code: str
    message: str


class Controlled(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to all three: ids that were changed, that were so already, and neither.

    What an earlier page named as changed may be named otherwise on a later one: the first counts.
    """

    changed: tuple[int, ...] = ()
    already: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    after_id: int | None = None
    up_to_id: int | None = None
