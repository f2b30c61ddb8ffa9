"""What the two dialects of templates have in common, and how a file is told to be in one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tasker_zmq.templates.drafts import Draft
from tasker_zmq.templates.fields import Keys, Section

IDENTITY_KEYS: Final = frozenset(
    {"name", "task_name", "namespace_name", "namespace", "version", "description", "environments"}
)
REMARK_KEYS: Final = frozenset({"metadata", "annotations", "loaded_from"})  # for readers only


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One way to write a template: its words, its defaults and the reader of its steps."""

    word: str
    steps_key: str
    schema_key: str
    task_keys: Keys
    environment_keys: Keys
    read_step: Callable[[Section], Draft]
    retry_limit: int  # retries after the first try, where a step says nothing
    config_timeout: str | None = None


def dialect_of(top: Section, *, older: Dialect, newer: Dialect) -> Dialect | None:
    """The dialect that the key of the steps belongs to; no such key is refused."""
    there = [each for each in (older, newer) if each.steps_key in top.values]
    if len(there) == 1:
        return there[0]
    if there:
        top.refuse(
            older.steps_key,
            f"'{newer.steps_key}' and '{older.steps_key}' belong to two dialects of templates, and"
            " one file keeps to one; move all steps under one of them",
        )
        return None
    words = (newer.steps_key, older.steps_key)
    guesses = [top.findings.guess(key, words, cutoff=0.7) for key in top.values]
    guess = next(filter(None, guesses), "")
    top.findings.refuse(
        (), f"a template wants '{newer.steps_key}' (or '{older.steps_key}'), found neither{guess}"
    )
    return None
