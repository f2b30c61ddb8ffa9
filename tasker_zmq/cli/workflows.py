"""`tasker-zmq workflows`: check task templates, publish them, list and draw what is published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from sqlalchemy import Connection

from tasker_zmq.cli.choosing import the_workflow, workflow_name
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.domain.template import StepTemplate, TaskTemplate
from tasker_zmq.errors import RefusedError, TemplateError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import PublishTemplates, TemplatesPublished, TemplateVerdict
from tasker_zmq.store.reads import workflows as reads
from tasker_zmq.templates import Loaded, canonical, draw_mermaid, draw_text, load_file, load_folder

REFUSED: Final = "refused"
FILE_ENDINGS: Final = (".yaml", ".yml")
FORMATS: Final = ("text", "mermaid", "json")
PATHS: Final = click.argument(
    "paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path)
)


@click.group()
def workflows() -> None:
    """Validate, publish, list and draw workflows."""


@workflows.command()
@PATHS
@output_option
@click.pass_obj
def validate(invocation: Invocation, *, paths: tuple[Path, ...], output: Output) -> None:
    """Check the templates in these files and folders; needs neither database nor daemon.

    Without PATH, those in the folder of the setting templates.folder.
    """
    chosen = _chosen(paths, invocation.settings.templates.folder)
    found = _load(chosen, environment=invocation.settings.environment)
    if output is Output.JSON:
        print_json([_as_object(path, loaded) for path, loaded in found])
    else:
        for path, loaded in found:
            _tell(path, loaded)
    bad = sum(loaded.template is None for _, loaded in found)
    if bad:
        raise TemplateError(f"{bad} of {len(found)} templates cannot be used")


def _chosen(paths: Sequence[Path], folder: Path) -> Sequence[Path]:
    """What was named, else the folder of the settings."""
    if not paths and not folder.is_dir():
        raise TemplateError(
            f"no PATH was given, and templates.folder is {folder}, which is no folder; "
            "name files or folders, or set templates.folder"
        )
    return paths or (folder,)


def _load(paths: Sequence[Path], *, environment: str) -> list[tuple[Path, Loaded]]:
    """Every template below the paths, in order."""
    found: list[tuple[Path, Loaded]] = []
    for path in paths:
        if path.is_dir():
            inside = load_folder(path, environment=environment)
            if not inside:
                raise TemplateError(f"{path} holds no template; wanted *.yaml or *.yml in it")
            files = sorted(each for ending in FILE_ENDINGS for each in path.rglob(f"*{ending}"))
            found += zip(files, inside, strict=True)
        else:
            found.append((path, load_file(path, environment=environment)))
    return found


def _tell(path: Path, loaded: Loaded) -> None:
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    for problem in loaded.problems:
        click.echo(str(problem))
    if loaded.template is not None:
        steps = len(loaded.template.steps)
        click.echo(f"{path}: {loaded.template.full_name}, {steps} steps: OK")


def _as_object(path: Path, loaded: Loaded) -> dict[str, Any]:
    return {
        "path": str(path),
        "workflow": loaded.template.full_name if loaded.template else None,
        "valid": loaded.template is not None,
        "problems": [_problem(each) for each in loaded.problems],
        "warnings": [_problem(each) for each in loaded.warnings],
    }


def _problem(each: Any) -> dict[str, Any]:
    return {"file": each.source, "line": each.line, "at": each.path, "message": each.message}


@workflows.command()
@PATHS
@output_option
@click.pass_obj
def publish(invocation: Invocation, *, paths: tuple[Path, ...], output: Output) -> None:
    """Make the templates in these files and folders known; all of them must be right first.

    Without PATH, those in the folder of the setting templates.folder.
    """
    chosen = _chosen(paths, invocation.settings.templates.folder)
    templates = _good(chosen, environment=invocation.settings.environment)
    verdicts: list[TemplateVerdict] = []
    with CommandClient(invocation.settings.endpoints.commands) as client:
        for template in templates:  # one command each: a command has a size that it must not pass
            answer = client.ask("PublishTemplates", PublishTemplates(templates=(template.source,)))
            verdicts += codec.decode_data(answer, TemplatesPublished).verdicts
    rows = [
        {
            "workflow": each.full_name,
            "verdict": each.verdict,
            "problems": list(each.problems),
            "warnings": list(each.warnings),
        }
        for each in verdicts
    ]
    print_rows(rows, ["workflow", "verdict"], output=output)
    problems = [
        problem for each in verdicts if each.verdict == REFUSED for problem in each.problems
    ]
    if problems:
        raise RefusedError("\n".join(problems))


def _good(paths: Sequence[Path], *, environment: str) -> list[TaskTemplate]:
    """The templates; TemplateError with every problem of every one of them."""
    found = _load(paths, environment=environment)
    problems = [str(problem) for _, loaded in found for problem in loaded.problems]
    if problems:
        raise TemplateError("\n".join(problems))
    for _, loaded in found:
        for warning in loaded.warnings:
            say(f"warning: {warning}")
    return [loaded.template for _, loaded in found if loaded.template is not None]


@workflows.command(name="list")
@click.option("--namespace", help="Only those of this namespace.")
@click.option("--inline", is_flag=True, help="Also those that came with a task.")
@output_option
@click.pass_obj
def list_workflows(
    invocation: Invocation, *, namespace: str | None, inline: bool, output: Output
) -> None:
    """List the published workflows with how many tasks run them."""
    with reading(invocation) as connection:
        found = reads.listed(connection, namespace=namespace, inline=inline)
    columns = ["workflow", "step_count", "tasks", "open_tasks", "failed_tasks", "created_at"]
    print_rows(found, columns, output=output, now=read_clock())


@workflows.command()
@click.argument("workflow", metavar="NAME|FILE")
@click.option("--format", "form", type=click.Choice(FORMATS), help="text, mermaid, or json.")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, workflow: str, form: str | None, output: Output) -> None:
    """Draw a workflow: a published one, [NAMESPACE/]NAME[@VERSION], or one in a file."""
    tasks: dict[str, int] = {}
    if Path(workflow).suffix in FILE_ENDINGS or Path(workflow).is_file():
        template = _good([Path(workflow)], environment=invocation.settings.environment)[0]
    else:
        with reading(invocation) as connection:
            found = _published(connection, workflow)
        template, tasks = found.template, found.tasks
    if form == "json" or (form is None and output is Output.JSON):
        print_json({"workflow": template.full_name, **canonical(template), "tasks": tasks})
    elif form == "mermaid":
        click.echo(draw_mermaid(template))
    else:
        _print(template, tasks)


def _published(connection: Connection, word: str) -> reads.Published:
    context = click.get_current_context()
    wanted = workflow_name(context, context.command.params[0], word)
    if wanted is None:
        raise click.UsageError("wanted NAMESPACE/NAME[@VERSION]")
    return reads.show(connection, the_workflow(connection, wanted))


def _print(template: TaskTemplate, tasks: dict[str, int]) -> None:
    now = read_clock()
    known = ", ".join(f"{count} {state}" for state, count in tasks.items())
    schema = template.input_schema or {}
    print_fields(
        {
            "workflow": template.full_name,
            "description": template.description,
            "tasks": known,
            "context": ", ".join(_context_fields(schema)),
        },
        now=now,
    )
    click.echo(f"\n{draw_text(template)}")
    columns = ["step", "handler", "retries", "backoff", "timeout_seconds"]
    print_section("steps", [_row(step) for step in template.steps], columns, now=now)


def _context_fields(schema: dict[str, Any]) -> list[str]:
    """The fields of the context; a `?` stands behind those that may be left out."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    wanted = required if isinstance(required, list) else []
    return [str(name) if name in wanted else f"{name}?" for name in properties]


def _row(step: StepTemplate) -> dict[str, Any]:
    backoff = step.backoff
    return {
        "step": step.name,
        "handler": step.handler_class,
        "retries": step.retry_limit if step.retryable else "never",
        "backoff": f"{backoff.kind} {backoff.base_ms}..{backoff.ceiling_ms} ms",
        "timeout_seconds": step.timeout_seconds,
    }
