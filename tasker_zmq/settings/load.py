"""Settings from their four sources: defaults, file, variables, flags; the later one wins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings import sections as s
from tasker_zmq.settings.catalogue import BY_KEY, CATALOGUE
from tasker_zmq.settings.checks import check_together, notes_on
from tasker_zmq.settings.environment import CONFIG, variables_layer
from tasker_zmq.settings.file import SettingsFile, file_layer, read_settings_file
from tasker_zmq.settings.layers import DEFAULT_ORIGIN, FLAG_ORIGIN, Given, Layer, unknown_setting
from tasker_zmq.settings.setting import UnusableValueError

# The second is what an older installation may still have.
USUAL_FILES: Final = (Path("config/tasker.yaml"), Path("config/zeromq.yaml"))


@dataclass(frozen=True)
class Loaded:
    """Settings, where each came from, and what is odd about the sources but no error."""

    settings: s.Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    config: Path | None


def load(
    *,
    config: Path | None,
    environment: str | None,
    variables: Mapping[str, str],
    overrides: Mapping[str, object],
) -> Loaded:
    """Read all sources; an override of None counts as not given.

    Raises SettingsError with one line per problem.
    """
    path = find_file(config, variables)
    file = read_settings_file(path) if path is not None else None
    chosen = _environment(environment, variables, file)
    layer = Layer()
    if file is not None:
        layer.absorb(file_layer(file, environment=str(chosen.value), variables=variables))
    layer.absorb(variables_layer(variables))
    layer.absorb(_overrides_layer(overrides))
    if layer.problems:
        raise SettingsError("\n".join(layer.problems))
    given = _defaults(variables) | layer.given | {"environment": chosen}
    settings = _assemble({key: each.value for key, each in given.items()})
    problems = check_together(settings)
    if problems:
        raise SettingsError("\n".join(problems))
    return Loaded(
        settings=settings,
        origins={key: each.origin for key, each in given.items()},
        warnings=(*layer.warnings, *notes_on(settings)),
        config=path,
    )


def find_file(config: Path | None, variables: Mapping[str, str]) -> Path | None:
    """The named file or, if it is there, the usual one; raises SettingsError if a named is not."""
    named, origin = (config, "--config") if config else (variables.get(CONFIG), CONFIG)
    if not named:
        return next((path for path in USUAL_FILES if path.is_file()), None)
    path = Path(named)
    if not path.exists():
        raise SettingsError(f"no settings file at {path}, which {origin} names; correct the path")
    return path


def _environment(
    environment: str | None, variables: Mapping[str, str], file: SettingsFile | None
) -> Given:
    setting = BY_KEY["environment"]
    declared = file.declared_environment(variables) if file is not None else None
    for raw, origin in (
        (environment, "--env"),
        (variables.get(setting.variable), setting.variable),
        (declared, str(file.path) if file is not None else ""),
    ):
        if raw:
            try:
                return Given(setting.convert(raw), origin)
            except UnusableValueError as problem:
                raise SettingsError(f"'environment' {problem} (from {origin})") from problem
    return Given(setting.default, DEFAULT_ORIGIN)


def _overrides_layer(overrides: Mapping[str, object]) -> Layer:
    layer = Layer()
    for key, raw in overrides.items():
        if key not in BY_KEY:
            layer.problems.append(unknown_setting(key, origin=f"a {FLAG_ORIGIN}"))
        elif raw is not None:
            layer.take(key, raw, origin=FLAG_ORIGIN)
    return layer


def _defaults(variables: Mapping[str, str]) -> dict[str, Given]:
    values = {setting.key: setting.default for setting in CATALOGUE}
    values["database.data_dir"] = s.default_data_dir(variables)
    values["templates.folder"] = Path(values["templates.folder"])
    return {key: Given(value, DEFAULT_ORIGIN) for key, value in values.items()}


def _assemble(values: Mapping[str, object]) -> s.Settings:
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        grouped.setdefault(section, {})[name] = value
    return s.Settings(
        **grouped[""],
        database=s.DatabaseSettings(**grouped["database"]),
        endpoints=s.EndpointSettings(**grouped["endpoints"]),
        dispatch=s.DispatchSettings(**grouped["dispatch"]),
        tick=s.TickSettings(**grouped["tick"]),
        limits=s.LimitSettings(**grouped["limits"]),
        heartbeat=s.HeartbeatSettings(**grouped["heartbeat"]),
        retry=s.RetrySettings(**grouped["retry"]),
        breaker=s.BreakerSettings(**grouped["breaker"]),
        timeouts=s.TimeoutSettings(**grouped["timeouts"]),
        drain=s.DrainSettings(**grouped["drain"]),
        readers=s.ReaderSettings(**grouped["readers"]),
        audit=s.AuditSettings(**grouped["audit"]),
        commands=s.CommandSettings(**grouped["commands"]),
        call=s.CallSettings(**grouped["call"]),
        templates=s.TemplateSettings(**grouped["templates"]),
        log=s.LogSettings(**grouped["log"]),
        worker=s.WorkerSettings(**grouped["worker"]),
    )
