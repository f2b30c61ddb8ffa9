"""`tasker-zmq commands`: what was asked of daemons, by whom, and what came of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import click
import msgspec

from tasker_zmq.cli.choosing import seconds, the_task
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.control import ANSWER_SECONDS_MAX, json_value
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.cli.replaying import replay
from tasker_zmq.cli.sections import print_fields
from tasker_zmq.errors import NotFoundError
from tasker_zmq.store.reads import commands as reads
from tasker_zmq.store.reads.commands import CommandFilter

NAME_CHARACTERS_MAX: Final = 24
_COLUMNS: Final = ("id", "created_at", "way", "command_type", "outcome", "ms", "who", "task_id")
_WAYS: Final = {"received": "in", "sent": "out"}
_TIMED: Final = ("command_type", "count", "refused", "p50_ms", "p95_ms", "max_ms")


@click.group()
def commands() -> None:
    """See what was asked, by whom, and what came of it; ask, and ask again."""


@commands.command(name="list")
@click.option("--type", "command_type", metavar="TYPE", help="Only InitializeTask, Ping, ...")
@click.option("--since", metavar="TIME", callback=seconds, help="Only of the last 30m, 2h, ...")
@click.option("--worker", metavar="NAME", help="Only of this worker, or told to it.")
@click.option("--task", metavar="ID|KEY", help="Only about this task.")
@click.option("--outcome", metavar="WORD", help="Only success, timed_out, a refusal's code, ...")
@click.option("--slow", metavar="MS", type=float, help="Only what took at least so long.")
@click.option("--limit", type=click.IntRange(1, reads.LIMIT_MAX), default=20, show_default=True)
@output_option
@click.pass_obj
def list_commands(
    invocation: Invocation,
    *,
    command_type: str | None,
    since: float | None,
    worker: str | None,
    task: str | None,
    outcome: str | None,
    slow: float | None,
    limit: int,
    output: Output,
) -> None:
    """Print the newest commands and answers, the oldest of them first."""
    now = read_clock()
    with reading(invocation) as connection:
        wanted = CommandFilter(
            command_type=command_type,
            since=None if since is None else now - timedelta(seconds=since),
            worker_name=worker,
            outcome=outcome,
            task_id=the_task(connection, task) if task else None,
            slow_ms=slow,
            limit=limit,
        )
        found = reads.listed(connection, wanted)
    if output is Output.JSON:
        print_json(found)
        return
    print_rows([{**row, **_shortened(row)} for row in found], _COLUMNS, output=output, now=now)


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    many = f" x {row['messages']}" if row["messages"] > 1 else ""
    who = row["worker"] or _initiator(row) or (row["source"] or "").partition(" ")[2] or None
    return {
        "way": _WAYS.get(row["direction"], row["direction"]),
        "command_type": row["command_type"] + many,
        "ms": row["execution_time_ms"],
        "who": who if who is None else who[:NAME_CHARACTERS_MAX],
    }


def _initiator(row: Mapping[str, Any]) -> str | None:
    """On whose behalf it was sent; whoever sends it may write anything there."""
    context = row["audit_context"]
    said = context.get("initiated_by") if isinstance(context, Mapping) else None
    return said if isinstance(said, str) else None


@commands.command()
@click.argument("word", metavar="ID|COMMAND-ID")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, word: str, output: Output) -> None:
    """Show a command and its answers, both ways, with what travelled."""
    with reading(invocation) as connection:
        found = reads.conversation(connection, word)
    if not found:
        raise NotFoundError(
            f"no command '{word}' was kept; `tasker-zmq commands list` shows the newest"
        )
    if output is Output.JSON:
        print_json(found)
        return
    now = read_clock()
    for row in found:
        print_fields({key: each for key, each in row.items() if key != "envelope"}, now=now)
        travelled = row["envelope"]
        click.echo("as it travelled" if travelled else "what travelled was not kept")
        click.echo("".join(each if each.isprintable() else "." for each in travelled or "") + "\n")


@commands.command()
@click.option(
    "--since", metavar="TIME", callback=seconds, default="1h", show_default=True,
    help="Of the last 30m, 2h, ...",
)  # fmt: skip
@output_option
@click.pass_obj
def stats(invocation: Invocation, *, since: float, output: Output) -> None:
    """Print for each type how many came, how many were refused, and how long they took."""
    now = read_clock()
    with reading(invocation) as connection:
        found = reads.latencies(connection, since=now - timedelta(seconds=since))
    print_rows(found, _TIMED, output=output, now=now)


@commands.command()
@click.argument("command_type", metavar="TYPE")
@click.option(
    "--data", "content", default="{}", metavar="JSON", callback=json_value, show_default=True
)
@click.option(
    "--timeout", metavar="TIME", callback=seconds, default=f"{ANSWER_SECONDS_MAX:g}s",
    show_default=True, help="How long to wait for the answer.",
)  # fmt: skip
@click.pass_obj
def send(
    invocation: Invocation, *, command_type: str, content: msgspec.Raw, timeout: float
) -> None:
    """Send any command to the daemon, and print the data of its answer as JSON."""
    with CommandClient(invocation.settings.endpoints.commands) as client:
        answer = client.ask(command_type, content, timeout_seconds=timeout)
    print_json(msgspec.json.decode(answer))


@commands.command(name="replay")
@click.argument("word", metavar="ID|COMMAND-ID")
@click.option("--execute", is_flag=True, help="Really send it.")
@click.option("--again", is_flag=True, help="Under a new id: it is carried out once more.")
@output_option
@click.pass_obj
def replay_command(
    invocation: Invocation, *, word: str, execute: bool, again: bool, output: Output
) -> None:
    """Send a command again that a daemon has received; without --execute, say what would be sent.

    Under its own id it is carried out only if that did not happen yet; --again makes it another.
    """
    planned = replay(invocation, word, again=again, execute=execute)
    if output is Output.JSON:
        print_json(planned)
        return
    print_fields(planned, now=read_clock())
    if not execute:
        say("nothing was sent; --execute sends it")
