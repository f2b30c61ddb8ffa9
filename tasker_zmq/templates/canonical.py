"""One form for every template: the newer dialect with everything resolved, and its digest."""

import hashlib
from typing import Any

import orjson

from tasker_zmq.domain.template import StepTemplate, TaskTemplate


def canonical(template: TaskTemplate) -> dict[str, Any]:
    """A JSON mapping that loads to the same template again, in every environment."""
    mapping: dict[str, Any] = {
        "name": template.name,
        "namespace_name": template.namespace,
        "version": template.version,
        "description": template.description,
        "steps": [_step(step) for step in template.steps],
    }
    if template.input_schema is not None:
        mapping["input_schema"] = template.input_schema
    return mapping


def digest(template: TaskTemplate) -> str:
    """SHA-256 in hex over the canonical form without descriptions: what runs, not what is said."""
    mapping = canonical(template)
    del mapping["description"]
    for step in mapping["steps"]:
        del step["description"]
    return hashlib.sha256(orjson.dumps(mapping, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _step(step: StepTemplate) -> dict[str, Any]:
    return {
        "name": step.name,
        "description": step.description,
        "handler": {"callable": step.handler_class, "initialization": step.handler_config},
        "dependencies": list(step.depends_on),
        "retry": {
            "retryable": step.retryable,
            "max_attempts": step.retry_limit + 1,
            "backoff": step.backoff.kind.value,
            "backoff_base_ms": step.backoff.base_ms,
            "max_backoff_ms": step.backoff.ceiling_ms,
        },
        "timeout_seconds": float(step.timeout_seconds),
        "confirm_start": step.confirm_start,
    }
