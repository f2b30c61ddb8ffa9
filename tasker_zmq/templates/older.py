"""The older dialect: `step_templates` with `handler_class`, `depends_on_step(s)` and defaults.

`default_retry_limit` counts the retries after the first try. A step without a timeout of its own
takes a numeric `timeout_seconds` of its handler configuration for one.
"""

from typing import Final

from tasker_zmq.templates.dialects import IDENTITY_KEYS, REMARK_KEYS, Dialect
from tasker_zmq.templates.drafts import RETRY_LIMIT_MAX, TIMEOUT_SECONDS_MAX, Draft
from tasker_zmq.templates.fields import HANDLER, HANDLER_WANTED, NAME, NAME_WANTED, Keys, Section

_RETRIES: Final = "'default_retry_limit', which counts retries, so one less"

STEP_KEYS: Final = Keys(
    used=frozenset(
        {
            "name",
            "description",
            "handler_class",
            "handler_config",
            "depends_on_step",
            "depends_on_steps",
            "default_retryable",
            "retryable",
            "default_retry_limit",
            "retry_limit",
            "timeout_seconds",
            "confirm_start",
        }
    ),
    unused=frozenset(
        {"dependent_system", "default_dependent_system", "custom_events", "skippable"}
    ),
    foreign={
        "handler": "'handler_class' and 'handler_config'",
        "dependencies": "'depends_on_steps'",
        "retry": "'default_retryable' and 'default_retry_limit'",
        "max_attempts": _RETRIES,
    },
)


def read_step(section: Section) -> Draft:
    """One step, or one environment's override of it."""
    section.note_unused(STEP_KEYS)
    return Draft(
        section=section,
        name=section.matching("name", pattern=NAME, wanted=NAME_WANTED),
        handler_class=section.matching("handler_class", pattern=HANDLER, wanted=HANDLER_WANTED),
        handler_config=section.mapping("handler_config"),
        depends_on=_parents(section),
        description=section.text("description"),
        retryable=section.flag("retryable", "default_retryable"),
        retry_limit=section.whole(
            "retry_limit", "default_retry_limit", low=0, high=RETRY_LIMIT_MAX
        ),
        timeout_seconds=section.seconds("timeout_seconds", most=TIMEOUT_SECONDS_MAX),
        confirm_start=section.flag("confirm_start"),
    )


def _parents(section: Section) -> tuple[str, ...] | None:
    one, several = section.text("depends_on_step"), section.names("depends_on_steps")
    if one is None:
        return several
    return tuple(dict.fromkeys((one, *(several or ()))))


OLDER: Final = Dialect(
    word="older",
    steps_key="step_templates",
    schema_key="schema",
    task_keys=Keys(
        used=IDENTITY_KEYS | REMARK_KEYS | {"step_templates", "schema", "named_steps"},
        unused=frozenset(
            {
                "task_handler_class",
                "class_name",
                "module_namespace",
                "concurrent",
                "default_dependent_system",
                "handler_config",
                "custom_events",
            }
        ),
        foreign={"input_schema": "'schema'", "task_handler": "'task_handler_class'"},
    ),
    environment_keys=Keys(
        used=frozenset({"step_templates", "step_overrides"}),
        unused=frozenset({"handler_config", "default_dependent_system"}),
        foreign={"steps": "'step_templates'"},
    ),
    read_step=read_step,
    retry_limit=3,
    config_timeout="timeout_seconds",
)
