"""`tasker-zmq tasks submit-many`: a task for each line of a file."""

import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec
import orjson

from tasker_zmq.cli.choosing import WorkflowName, priority, workflow_name
from tasker_zmq.cli.client import cli_source
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_object
from tasker_zmq.client.link import Link
from tasker_zmq.client.many import Outcome
from tasker_zmq.client.operations import Operations, run
from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.errors import RefusedError
from tasker_zmq.protocol.bulk import ShortRequest

SHOWN_CHARACTERS_MAX: Final = 40
SHOWN_REFUSALS_MAX: Final = 10

Line = tuple[int, bytes, dict[str, Any]]  # its number, from 1; its text, and what that says


def add_to(group: click.Group) -> None:
    """Give the group its command."""
    group.add_command(submit_many)


@click.command(name="submit-many")
@click.argument("workflow", callback=workflow_name, metavar="NAMESPACE/NAME[@VERSION]")
@click.option(
    "--file",
    required=True,
    type=click.Path(allow_dash=True, path_type=Path, exists=True, dir_okay=False),
    help="One context a line, a JSON object each; - is standard input.",
)
@click.option(
    "--key-field",
    metavar="NAME",
    help="This field of each context is the task's key: the file can be submitted again.",
)
@click.option("--priority", callback=priority, metavar="NUMBER|low|normal|high|urgent")
@click.option(
    "--mode",
    type=click.Choice([ExecutionMode.IMMEDIATE.value, ExecutionMode.BACKGROUND.value]),
    help="background: behind everything else.",
)
@click.option("--worker", metavar="NAME", help="Only this worker runs them; without it, they wait.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--reason", help="Why; kept with each task.")
@output_option
@click.pass_obj
def submit_many(
    invocation: Invocation,
    /,
    *,
    workflow: WorkflowName,
    file: Path,
    key_field: str | None,
    mode: str | None,
    worker: str | None,
    output: Output,
    **more: Any,
) -> None:
    """Have a task made and run for each line of a file, hundreds by one command.

    All lines are looked at before the first is sent. A context that the daemon refuses stands in no
    other's way; then the exit code is that of a refusal.
    """
    if workflow.namespace is None:
        raise click.UsageError(f"wanted NAMESPACE/NAME[@VERSION], found '{workflow}'")
    opened = _opener(file)
    numbers = [number for number, _, context in _lines(opened) if _key(context, key_field, number)]
    request = ShortRequest(
        namespace=workflow.namespace,
        name=workflow.name,
        version=workflow.version,
        execution_mode=ExecutionMode(mode) if mode else None,
        **more,
    )
    requests = (
        msgspec.structs.replace(
            request, context=msgspec.Raw(text), identity=_key(context, key_field, number)[0]
        )
        for number, text, context in _lines(opened)
    )
    link = Link(invocation.settings.endpoints.commands, source=cli_source())
    operations = Operations(link)
    try:
        outcome = run(operations.many(requests, worker=worker))
    finally:
        operations.close()
    _tell(outcome, numbers, output=output)


def _opener(file: Path) -> Callable[[], BinaryIO]:
    """What opens it as often as need be; standard input can be read but once."""
    if str(file) != "-":
        return lambda: file.open("rb")
    given = sys.stdin.buffer.read()
    return lambda: BytesIO(given)


def _lines(opened: Callable[[], BinaryIO]) -> Iterator[Line]:
    """The lines that are not empty; a UsageError names the first that is no context."""
    with opened() as source:
        for number, line in enumerate(source, start=1):
            text = line.strip()
            if not text:
                continue
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise click.UsageError(f"line {number} is not JSON: {error}") from None
            if not isinstance(value, dict):
                found = text.decode(errors="replace")[:SHOWN_CHARACTERS_MAX]
                raise click.UsageError(f"line {number} must be a JSON object, found {found}")
            yield number, text, value


def _key(context: dict[str, Any], name: str | None, number: int) -> tuple[str | None]:
    """The identity that a context gives its task, if any; in a tuple, for it may be none."""
    if name is None:
        return (None,)
    value = context.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        found = "nothing" if value is None else orjson.dumps(value).decode()[:SHOWN_CHARACTERS_MAX]
        raise click.UsageError(
            f"line {number}: wanted a text or a whole number as '{name}', found {found}"
        )
    return (str(value),)


def _tell(outcome: Outcome, numbers: list[int], *, output: Output) -> None:
    """Print what was made; raises RefusedError for what was not."""
    made = [each for _, each in sorted(outcome.made.items())]
    refused = [(numbers[place], error) for place, error in sorted(outcome.refused.items())]
    duplicates = sum(each.duplicate for each in made)
    counts = {"made": len(made) - duplicates, "there_already": duplicates, "refused": len(refused)}
    if output is Output.JSON:
        told = [{"line": number, "reason": str(error)} for number, error in refused]
        print_json({**counts, "task_ids": [each.task_id for each in made], "refusals": told})
    else:
        ids = {"first_task": made[0].task_id, "last_task": made[-1].task_id} if made else {}
        print_object({**counts, **ids}, output=output)
    if refused:
        shown = [f"line {number}: {error}" for number, error in refused[:SHOWN_REFUSALS_MAX]]
        more = len(refused) - len(shown)
        raise RefusedError("\n".join(shown + ([f"and {more} more lines"] if more else [])))
