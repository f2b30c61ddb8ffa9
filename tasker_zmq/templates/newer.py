"""The newer dialect: `steps` with `handler.callable`, `dependencies` and a `retry` block.

`max_attempts` counts all tries, and 0 means 1. `limit` is the name that the same field had before
it was renamed: it counts all tries too. A step that says nothing gets three tries, as the authors
of these files knew it.
"""

from typing import Final

from tasker_zmq.templates.dialects import IDENTITY_KEYS, REMARK_KEYS, Dialect
from tasker_zmq.templates.drafts import (
    BACKOFF_MS_MAX,
    RETRY_LIMIT_MAX,
    TIMEOUT_SECONDS_MAX,
    Draft,
    backoff_word,
)
from tasker_zmq.templates.fields import HANDLER, HANDLER_WANTED, NAME, NAME_WANTED, Keys, Section

_ALL_TRIES: Final = "'retry.max_attempts', which counts all tries, so one more"

STEP_KEYS: Final = Keys(
    used=frozenset(
        {
            "name",
            "description",
            "handler",
            "dependencies",
            "retry",
            "timeout_seconds",
            "confirm_start",
            "type",
        }
    ),
    unused=frozenset({"system_dependency", "publishes_events", "lifecycle", "batch_config"}),
    foreign={
        "handler_class": "'handler.callable'",
        "handler_config": "'handler.initialization'",
        "depends_on_step": "'dependencies'",
        "depends_on_steps": "'dependencies'",
        "default_retryable": "'retry.retryable'",
        "retryable": "'retry.retryable'",
        "default_retry_limit": _ALL_TRIES,
        "retry_limit": _ALL_TRIES,
        "max_attempts": "'retry.max_attempts'",
    },
)
HANDLER_KEYS: Final = Keys(
    used=frozenset({"callable", "initialization"}), unused=frozenset({"method", "resolver"})
)
RETRY_KEYS: Final = Keys(
    used=frozenset(
        {"retryable", "max_attempts", "limit", "backoff", "backoff_base_ms", "max_backoff_ms"}
    ),
    unused=frozenset({"initial_delay", "max_delay", "jitter"}),
    foreign={"retry_limit": "'max_attempts', which counts all tries, so one more"},
)


def read_step(section: Section) -> Draft:
    """One step, or one environment's override of it."""
    section.note_unused(STEP_KEYS)
    handler = section.section("handler") or _empty(section, "handler")
    handler.note_unused(HANDLER_KEYS)
    retry = section.section("retry") or _empty(section, "retry")
    retry.note_unused(RETRY_KEYS)
    _warn_of_type(section)
    tries = retry.whole("max_attempts", "limit", low=0, high=RETRY_LIMIT_MAX + 1)
    return Draft(
        section=section,
        name=section.matching("name", pattern=NAME, wanted=NAME_WANTED),
        handler_class=handler.matching("callable", pattern=HANDLER, wanted=HANDLER_WANTED),
        handler_config=handler.mapping("initialization"),
        depends_on=section.names("dependencies"),
        description=section.text("description"),
        retryable=retry.flag("retryable"),
        retry_limit=None if tries is None else max(tries - 1, 0),
        backoff=backoff_word(retry, "backoff"),
        backoff_base_ms=retry.whole("backoff_base_ms", low=0, high=BACKOFF_MS_MAX),
        backoff_ceiling_ms=retry.whole("max_backoff_ms", low=0, high=BACKOFF_MS_MAX),
        timeout_seconds=section.seconds("timeout_seconds", most=TIMEOUT_SECONDS_MAX),
        confirm_start=section.flag("confirm_start"),
    )


def _empty(section: Section, key: str) -> Section:
    return Section(section.label, {}, section.at(key), section.findings)


def _warn_of_type(section: Section) -> None:
    kind = section.text("type")
    if kind not in {None, "standard"}:
        message = f"steps of type '{kind}' run as ordinary steps here: types are not used yet"
        section.findings.warn(section.at("type"), message)


NEWER: Final = Dialect(
    word="newer",
    steps_key="steps",
    schema_key="input_schema",
    task_keys=Keys(
        used=IDENTITY_KEYS | REMARK_KEYS | {"steps", "input_schema"},
        unused=frozenset({"task_handler", "system_dependencies", "domain_events", "lifecycle"}),
        foreign={
            "schema": "'input_schema'",
            "task_handler_class": "'task_handler.callable'",
            "named_steps": "only 'steps'",
        },
    ),
    environment_keys=Keys(
        used=frozenset({"steps", "step_overrides"}),
        unused=frozenset({"task_handler"}),
        foreign={"step_templates": "'steps'"},
    ),
    read_step=read_step,
    retry_limit=2,
)
