"""Whether a task's context fits the input schema of its workflow.

What checks schemas is imported with the first one: it takes long, and a daemon that starts has
better things to do.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.domain.ids import NamedTaskId
from tasker_zmq.store.definitions import Definition

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


def check_fit(value: dict[str, Any], definition: Definition) -> None:
    """Raise CommandRefusedError when `value` is not what the definition's schema, if any, wants."""
    if definition.input_schema is None:
        return
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    validator = _validator(definition.named_task_id, orjson.dumps(definition.input_schema))
    try:
        found = best_match(validator.iter_errors(value))
    except Unresolvable as error:
        raise CommandRefusedError(
            "invalid_schema", f"the input schema of {definition.full_name} refers to {error.ref}"
        ) from None
    if found is not None:
        raise CommandRefusedError(
            "invalid_context",
            f"the context does not fit {definition.full_name}: {_explain(found)}",
            hint=f"tasker-zmq workflows show {definition.full_name}",
        )


@lru_cache(maxsize=512)
def _validator(_named_task_id: NamedTaskId, schema_json: bytes) -> "Validator":
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    schema: dict[str, Any] = orjson.loads(schema_json)
    kind = validator_for(schema, default=Draft202012Validator)
    # An empty registry: a schema may refer to itself, never to an address on the network.
    return kind(schema, registry=Registry())


def _explain(error: "ValidationError") -> str:
    place = error.json_path
    return f"at {place}: {error.message[:300]}"
