"""`tasker-zmq config`: the settings in use, what each means, and whether a file is right."""

from pathlib import Path
from typing import Any

import click

from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.errors import NotFoundError, SettingsError
from tasker_zmq.settings import (
    BY_KEY,
    CATALOGUE,
    Loaded,
    Setting,
    nearest_key,
    process_variables,
    refuse_public_binds,
)
from tasker_zmq.settings.file import STANDARD_ENVIRONMENTS, read_settings_file
from tasker_zmq.settings.load import find_file
from tasker_zmq.settings.reference import explain as explain_setting
from tasker_zmq.settings.reference import json_schema, markdown


@click.group()
def config() -> None:
    """Show, check and explain the settings."""


@config.command()
@click.option("--origin", is_flag=True, help="Also tell where each value came from.")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, origin: bool, output: Output) -> None:
    """Print every setting as it is in use; passwords are hidden."""
    loaded = invocation.loaded
    if output is Output.JSON:
        print_json({each.key: _shown(loaded, each, origin=origin) for each in CATALOGUE})
        return
    rows = [
        {
            "setting": each.key,
            "value": each.show(loaded.settings.value_of(each.key)) or None,
            "origin": loaded.origins[each.key],
        }
        for each in CATALOGUE
    ]
    print_rows(rows, ["setting", "value", *(["origin"] if origin else [])], output=output)


def _shown(loaded: Loaded, setting: Setting, *, origin: bool) -> Any:
    value = loaded.settings.value_of(setting.key)
    if setting.secret and value is not None:
        value = setting.show(value)
    return {"value": value, "origin": loaded.origins[setting.key]} if origin else value


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def validate(invocation: Invocation, file: Path | None) -> None:
    """Check FILE, by default the one in use, for each of its environments."""
    path = find_file(file or invocation.config, process_variables())
    environments: tuple[str | None, ...] = (invocation.environment,)
    if path is not None and invocation.environment is None:
        environments = _environments(path)
    problems: dict[str, None] = {}  # ordered, each once
    warnings: dict[str, None] = {}
    for environment in environments:
        try:
            loaded = invocation.load(config=path, environment=environment)
            warnings |= dict.fromkeys(loaded.warnings)
            refuse_public_binds(loaded.settings)
        except SettingsError as error:
            problems |= dict.fromkeys(str(error).splitlines())
    for warning in warnings:
        say(f"warning: {warning}")
    if problems:
        raise SettingsError("\n".join(problems))
    say(f"{path or 'no settings file; defaults and variables'}: OK")


def _environments(path: Path) -> tuple[str | None, ...]:
    """Those with a section of their own, or whichever is the default."""
    named = tuple(read_settings_file(path).environments)
    standard = tuple(name for name in STANDARD_ENVIRONMENTS if name in named)
    others = tuple(name for name in named if name not in STANDARD_ENVIRONMENTS)
    return (*standard, *others) or (None,)


@config.command()
@click.argument("key", required=False)
@click.option("--all", "every", is_flag=True, help="The whole reference, as Markdown.")
def explain(key: str | None, *, every: bool) -> None:
    """Tell what setting KEY does, what it takes and when to change it."""
    if every == (key is not None):
        raise click.UsageError("give one KEY, such as dispatch.batch_size, or --all")
    if key is None:
        click.echo(markdown(), nl=False)
        return
    if key not in BY_KEY:
        raise NotFoundError(f"no setting '{key}'; {_way_out(key)}")
    click.echo(explain_setting(BY_KEY[key]))


def _way_out(key: str) -> str:
    nearest = nearest_key(key)
    return f"did you mean '{nearest}'?" if nearest else "`tasker-zmq config show` lists them all"


@config.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    print_json(json_schema())
