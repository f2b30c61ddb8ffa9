"""`tasker-zmq tasks`: submit one, list them, see one with its steps, watch one until it ends."""

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import orjson

from tasker_zmq.cli import tasks_control, tasks_many
from tasker_zmq.cli.choosing import (
    WorkflowName,
    moment,
    priority,
    seconds,
    the_task,
    workflow_name,
)
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import Database, opened, read_clock, reading
from tasker_zmq.cli.drawing import heading, print_lines, print_paragraph, step_lines
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import (
    Output,
    as_text,
    output_option,
    print_json,
    print_object,
    print_rows,
    say,
)
from tasker_zmq.cli.watching import Look, follow, look, refuse_failure
from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.graph import sinks
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import TaskState
from tasker_zmq.errors import TemplateError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import NULL
from tasker_zmq.protocol.envelope import WorkerRouting
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest
from tasker_zmq.store.reads import tasks as reads
from tasker_zmq.store.reads.tasks import TaskFilter
from tasker_zmq.templates import load_file

LIST_MAX: Final = reads.LIMIT_MAX
SHOWN_CHARACTERS_MAX: Final = 40


@click.group()
def tasks() -> None:
    """Submit, list, show and watch tasks; cancel, pause, resume and retry them."""


tasks_control.add_to(tasks)
tasks_many.add_to(tasks)


@tasks.command()
@click.argument(
    "workflow", callback=workflow_name, metavar="NAMESPACE/NAME[@VERSION]", required=False
)
@click.option(
    "--workflow-file",
    type=click.Path(path_type=Path),
    help="Run the workflow of this template, for this task alone, instead of a published one.",
)
@click.option("--context", metavar="JSON", help="The task's context, a JSON object.")
@click.option(
    "--context-file",
    type=click.Path(allow_dash=True, path_type=Path),
    help="Read the context from a file; - is standard input.",
)
@click.option("--key", "identity", help="The same key of one workflow is one task, ever.")
@click.option("--priority", callback=priority, metavar="NUMBER|low|normal|high|urgent")
@click.option("--at", metavar="TIME", callback=moment, help="Not before: 2030-01-31T08:00+01:00.")
@click.option("--in", "after", metavar="TIME", callback=seconds, help="Not before: 90s, 5min.")
@click.option(
    "--mode",
    type=click.Choice([each.value for each in ExecutionMode]),
    help="background: behind everything else.",
)
@click.option("--worker", metavar="NAME", help="Only this worker runs it; without it, it waits.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--reason", help="Why; kept with the task.")
@click.option("--wait", is_flag=True, help="Follow it until it ends; exit 1 unless it completes.")
@click.option(
    "--timeout",
    metavar="TIME",
    callback=seconds,
    help="With --wait: no longer than this, such as 90s.",
)
@output_option
@click.pass_obj
def submit(
    invocation: Invocation,
    /,
    *,
    workflow: WorkflowName | None,
    workflow_file: Path | None,
    context: str | None,
    context_file: Path | None,
    at: datetime | None,
    after: float | None,
    mode: str | None,
    worker: str | None,
    wait: bool,
    timeout: float | None,
    output: Output,
    **more: Any,
) -> None:
    """Have a task of a published workflow made and run, or of one in a file."""
    if (workflow is None) == (workflow_file is None):
        raise click.UsageError("wanted NAMESPACE/NAME[@VERSION] or --workflow-file, and one only")
    if workflow is not None and workflow.namespace is None:
        raise click.UsageError(f"wanted NAMESPACE/NAME[@VERSION], found '{workflow}'")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait; give both")
    due = _due(at, after)
    request = TaskRequest(
        namespace=workflow.namespace if workflow else None,
        name=workflow.name if workflow else None,
        version=workflow.version if workflow else None,
        context=_context(context, context_file),
        scheduled_for=due.isoformat() if due else None,
        execution_mode=ExecutionMode(mode) if mode else None,
        **more,
    )
    asked = InitializeTask(task_request=request, workflow=_inline(invocation, workflow_file))
    with CommandClient(invocation.settings.endpoints.commands) as client:
        routing = WorkerRouting(target_worker_id=worker) if worker else None
        answer = client.ask("InitializeTask", asked, worker_routing=routing)
    made = codec.decode_data(answer, TaskInitialized)
    if made.duplicate:
        say(f"task {made.task_id} was there already, with the same key")
    if wait:
        _follow_to_the_end(invocation, made.task_id, timeout=timeout, output=output)
        return
    values = {
        "task_id": made.task_id,
        "workflow": made.named_task,
        "steps": made.step_count,
        "duplicate": made.duplicate,
        "scheduled_for": made.scheduled_for,
        "candidate_workers": list(made.candidate_workers),
        "estimated_duration_ms": made.estimated_duration_ms,
    }
    print_object(values, output=output)
    if output is Output.TABLE:
        say(f"follow it with: tasker-zmq tasks watch {made.task_id}")


def _due(at: datetime | None, after: float | None) -> datetime | None:
    if at is not None and after is not None:
        raise click.UsageError("give --at or --in, not both")
    return read_clock() + timedelta(seconds=after) if after is not None else at


def _inline(invocation: Invocation, file: Path | None) -> msgspec.Raw:
    """The template in a file, checked before it is sent."""
    if file is None:
        return NULL
    loaded = load_file(file, environment=invocation.settings.environment)
    if loaded.template is None:
        raise TemplateError("\n".join(str(problem) for problem in loaded.problems))
    return codec.raw(loaded.template.source)


def _context(context: str | None, file: Path | None) -> msgspec.Raw:
    """The context as it was given, to the byte; anything but an object is refused here."""
    if context is not None and file is not None:
        raise click.UsageError("give --context or --context-file, not both")
    if file is not None:
        source = "standard input" if str(file) == "-" else str(file)
        given = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    else:
        source, given = "--context", (context or "{}").encode()
    try:
        value = orjson.loads(given)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(
            f"{source} is not JSON: {error}; wanted an object such as '{{\"order_id\": 7}}', in "
            "single quotes on a shell"
        ) from None
    if not isinstance(value, dict):
        found = given.decode(errors="replace").strip()[:SHOWN_CHARACTERS_MAX]
        raise click.UsageError(f"{source} must be a JSON object like {{...}}, found {found}")
    return msgspec.Raw(given.strip())


def _follow_to_the_end(
    invocation: Invocation, task_id: TaskId, *, timeout: float | None, output: Output
) -> None:
    with opened(invocation) as database:
        ended = follow(database, task_id, seconds_max=timeout)
    _print_look(ended, output=output, with_results=True)
    refuse_failure(ended)


@tasks.command(name="list")
@click.option("--workflow", callback=workflow_name, metavar="[NAMESPACE/]NAME[@VERSION]")
@click.option("--namespace", help="Only of workflows in this namespace.")
@click.option("--state", type=click.Choice([each.value for each in TaskState]))
@click.option("--tag", help="Only with this tag.")
@click.option("--key", "identity", help="Only with this key.")
@click.option("--limit", type=click.IntRange(1, LIST_MAX), default=20, show_default=True)
@click.option("--before", type=click.IntRange(1), metavar="ID", help="Only older than this task.")
@output_option
@click.pass_obj
def list_tasks(
    invocation: Invocation,
    *,
    workflow: WorkflowName | None,
    namespace: str | None,
    state: str | None,
    tag: str | None,
    identity: str | None,
    limit: int,
    before: int | None,
    output: Output,
) -> None:
    """List tasks, the newest first."""
    wanted = TaskFilter(
        namespace=(workflow.namespace if workflow else None) or namespace,
        name=workflow.name if workflow else None,
        version=workflow.version if workflow else None,
        state=state,
        tag=tag,
        identity=identity,
        limit=limit,
        before_task_id=before,
    )
    with reading(invocation) as connection:
        found = reads.listed(connection, wanted)
    if output is Output.JSON:
        print_json(found)
        return
    rows = [{**row, **_shortened(row)} for row in found]
    columns = ["task_id", "workflow", "state", "steps", "key", "requested_at", "completed_at"]
    print_rows(rows, columns, output=output, now=read_clock())
    if len(found) == limit:
        say(f"there may be more: --before {found[-1]['task_id']}")


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table shows instead: one word for progress, no keys that we made ourselves."""
    identity = row["identity"] or ""
    return {
        "steps": f"{row['steps_done']}/{row['step_count']}",
        "key": None if identity.startswith("command:") else identity,
        "state": f"{row['state']} (paused)" if row["paused"] else row["state"],
    }


@tasks.command()
@click.argument("task", metavar="ID|KEY")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, task: str, output: Output) -> None:
    """Show a task: its steps as a graph with their states, and why it waits."""
    with opened(invocation) as database:
        seen = look(database, _chosen(database, task), now=read_clock())
    _print_look(seen, output=output, with_results=False)


@tasks.command()
@click.argument("task", metavar="ID|KEY")
@click.option(
    "--timeout", metavar="TIME", callback=seconds, help="No longer than this, such as 90s."
)
@output_option
@click.pass_obj
def watch(invocation: Invocation, *, task: str, timeout: float | None, output: Output) -> None:
    """Follow a task until it ends; exit 1 unless it completes."""
    with opened(invocation) as database:
        task_id = _chosen(database, task)
    _follow_to_the_end(invocation, task_id, timeout=timeout, output=output)


def _chosen(database: Database, word: str) -> TaskId:
    with database.reading() as connection:
        return the_task(connection, word)


def _print_look(seen: Look, *, output: Output, with_results: bool) -> None:
    shown = seen.shown
    if output is Output.JSON:
        print_json({**shown, "explanation": seen.explanation})
        return
    print_lines([heading(shown, now=seen.at), *step_lines(shown, now=seen.at), ""])
    print_paragraph(seen.explanation)
    results = _results(shown) if with_results else {}
    if results:
        print_lines(["", *(f"{name}: {text}" for name, text in results.items())])


def _results(shown: Mapping[str, Any]) -> dict[str, str]:
    """What the last steps returned: the result of the task."""
    last = sinks([step["name"] for step in shown["steps"]], reads.parents_of(shown))
    results = {step["name"]: step["results"] for step in shown["steps"]}
    return {name: as_text(results[name], now=None) for name in last if results[name] is not None}
