"""The catalogue as a page for people and as a JSON Schema for editors."""

from collections.abc import Iterator
from typing import Any, Final

from tasker_zmq.settings import seeds
from tasker_zmq.settings.catalogue import CATALOGUE, SECTIONS
from tasker_zmq.settings.file import STANDARD_ENVIRONMENTS
from tasker_zmq.settings.setting import Kind, Setting

_INTERPOLATED: Final = {"type": "string", "pattern": r"\$\{"}
_NUMERIC: Final = {
    Kind.WHOLE: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.SECONDS: {"type": "number"},
    Kind.MILLISECONDS: {"type": "number"},
    Kind.BYTES: {"type": "integer"},
}
_WITH_UNIT: Final = {
    Kind.SECONDS: r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?$",
    Kind.MILLISECONDS: r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?$",
    Kind.BYTES: r"^[0-9]+(\.[0-9]+)? ?(B|[KMG]iB|kB|[KMG]B)?$",
}
_PREAMBLE: Final = """\
# Settings

Written by `tasker-zmq config explain --all`; edit tasker_zmq/settings/catalogue.py, not this page.

Later sources win: defaults, the settings file, environment variables, flags. The file is the one
that `--config` or `TASKER_CONFIG` names, else `config/tasker.yaml` in the working directory. Its
sections stand at the top, or under `default:` and the names of environments; the environment that
`--env` or `TASKER_ENV` names is laid over `default`. Text may hold `${NAME}` or
`${NAME:-default}`. Each variable also works as `NAME_FILE`: the value is then read from that file,
as is usual for secrets. `tasker-zmq config show --origin` tells where each value came from.

Durations: `500ms`, `30s`, `5m`, `2h`; sizes: `64KiB`, `1MiB`; a plain number has the unit of the
setting's name. An unknown key or a value out of range is an error that names file and line.

The section `step_execution` of an older `config/zeromq.yaml` is read as it is.
"""


def shown_default(setting: Setting) -> str:
    """The default as one would write it."""
    return setting.default_shown or setting.show(setting.default) or "none"


def explain(setting: Setting) -> str:
    """One setting in words."""
    return "\n".join(
        (
            setting.key,
            f"  {setting.description}",
            f"  Wants:    {setting.wants}",
            f"  Default:  {shown_default(setting)}",
            f"  Variable: {', '.join((setting.variable, *setting.fallback_variables))}",
            f"  Change:   {setting.effect}",
        )
    )


def markdown() -> str:
    """The whole of docs/SETTINGS.md."""
    return "\n".join((_PREAMBLE, *_sections()))


def _sections() -> Iterator[str]:
    for section in ("", *SECTIONS):
        yield f"## {section}\n" if section else "## At the top\n"
        for setting in CATALOGUE:
            if setting.key.rpartition(".")[0] == section:
                yield _entry(setting)
    yield f"## {seeds.SECTION} (older files)\n\n| key | becomes |\n| --- | --- |"
    for key, (ours, _) in seeds.MAPPED.items():
        yield f"| `{key}` | `{ours}` |"
    for key, reason in seeds.WITHOUT_EFFECT.items():
        yield f"| `{key}` | no effect: {reason} |"
    yield ""


def _entry(setting: Setting) -> str:
    variables = ", ".join(f"`{name}`" for name in (setting.variable, *setting.fallback_variables))
    return (
        f"### `{setting.key}`\n\n{setting.description}\n\n"
        f"- Wants: {setting.wants}\n"
        f"- Default: `{shown_default(setting)}`\n"
        f"- Variable: {variables}\n"
        f"- When to change it: {setting.effect}\n"
    )


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, for editors; looser than `load` only where `${...}` stands for a value."""
    sections: dict[str, Any] = {}
    for setting in CATALOGUE:
        section, _, name = setting.key.rpartition(".")
        within = sections.setdefault(section, _object({}))["properties"] if section else sections
        within[name] = _schema(setting)
    older: dict[str, Any] = {key: {} for key in (*seeds.MAPPED, *seeds.WITHOUT_EFFECT)}
    sections[seeds.SECTION] = _object(older)
    environment = sections.pop("environment")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tasker-zmq settings",
        "type": "object",
        "properties": {
            **sections,
            "environment": environment,
            **{name: {"$ref": "#/$defs/sections"} for name in ("default", *STANDARD_ENVIRONMENTS)},
        },
        "patternProperties": {"^x-": {}},
        "additionalProperties": {"$ref": "#/$defs/sections"},
        "$defs": {"sections": {**_object(sections)}},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _schema(setting: Setting) -> dict[str, Any]:
    about = {"description": f"{setting.description} {setting.effect}"}
    if setting.default is not None:
        about["default"] = setting.show(setting.default)
    return {**about, "anyOf": [*_forms(setting), _INTERPOLATED]}


def _forms(setting: Setting) -> list[dict[str, Any]]:
    if setting.kind in _NUMERIC:
        low, high = setting.between or (None, None)
        number = {**_NUMERIC[setting.kind], "minimum": low, "maximum": high}
        pattern = _WITH_UNIT.get(setting.kind)
        return [number, {"type": "string", "pattern": pattern}] if pattern else [number]
    if setting.choices is not None:
        return [{"enum": [each.value for each in setting.choices]}]
    return _OTHER_FORMS.get(setting.kind, [{"type": "string"}])


_ENDPOINT: Final = {"type": "string", "pattern": "^(tcp|ipc|inproc)://"}
_OTHER_FORMS: Final[dict[Kind, list[dict[str, Any]]]] = {
    Kind.FLAG: [{"type": "boolean"}],
    Kind.NAME: [{"type": ["string", "integer"], "pattern": "^[A-Za-z0-9._-]{1,64}$"}],
    Kind.ENDPOINT: [_ENDPOINT],
    Kind.ENDPOINTS: [{"type": ["array", "null"], "items": _ENDPOINT}, {"type": "string"}],
    Kind.DATABASE_URL: [{"type": ["string", "null"]}],
    Kind.FUNCTIONS: [
        {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
        {"type": "string"},
    ],
}
