"""Checks that the schema of a task's context is a JSON Schema that needs no network."""

from collections.abc import Iterator
from typing import Any, Final

from tasker_zmq.templates.fields import Section
from tasker_zmq.templates.plain import weight
from tasker_zmq.templates.problems import Where, clipped, path_text

MESSAGE_CHARACTERS_MAX: Final = 240
SCHEMA_VALUES_MAX: Final = 20_000


def read_schema(top: Section, key: str) -> dict[str, Any] | None:
    """The schema under `key`, if there is one and it is usable."""
    schema = top.mapping(key)
    if schema is None:
        return None
    if weight(schema) > SCHEMA_VALUES_MAX:
        top.refuse(key, f"'{key}' is too large: more than {SCHEMA_VALUES_MAX} values; shorten it")
        return None
    # Imported here: it takes long, and most workflows have no schema.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        inner = tuple(error.absolute_path)
        place = f" at {path_text(inner)}" if inner else ""
        message = f"'{key}' is no valid JSON Schema{place}: {error.message}"
        top.findings.refuse((*top.at(key), *inner), clipped(message, most=MESSAGE_CHARACTERS_MAX))
        return None
    except RecursionError:
        top.refuse(key, f"'{key}' is nested too deeply for a JSON Schema; flatten it")
        return None
    for where, target in references(schema, ()):
        reason = _unusable(schema, target)
        if reason:
            top.findings.refuse((*top.at(key), *where), f"'{key}': '$ref' {reason}")
    return schema


def references(value: object, where: Where) -> Iterator[tuple[Where, str]]:
    """Every text under a key `$ref`, with its place."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref" and isinstance(each, str):
                yield (*where, key), each
            else:
                yield from references(each, (*where, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from references(each, (*where, index))


def _unusable(schema: dict[str, Any], target: str) -> str | None:
    """Why a reference cannot be followed; nothing is ever fetched for a template."""
    if not target.startswith("#"):
        return f"'{clipped(target)}' leads out of the template; copy what it names into '$defs'"
    if not target.startswith("#/"):
        return None
    found: object = schema
    for part in target[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return f"'{clipped(target)}' names nothing in the schema"
    return None
