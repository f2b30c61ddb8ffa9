"""`tasker-zmq workers drain|disable|enable|pin|unpin|ping`: what people decide about workers."""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import click
import msgspec

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_object
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.workers import (
    ManageAction,
    ManageWorker,
    PingWorker,
    PinTarget,
    WorkerManaged,
    WorkerPinged,
)

P = ParamSpec("P")
R = TypeVar("R")

PING_SECONDS: Final = 5.0
ANSWER_SECONDS_MORE: Final = 2.0
_SAID: Final = {
    ManageAction.DRAIN: "{0} gets nothing new, and ends what it has",
    ManageAction.DISABLE: "{0} gets nothing, and what it had goes elsewhere",
    ManageAction.ENABLE: "{0} gets work",
    ManageAction.PIN: "these steps go to {0} and to nobody else, until you unpin it",
    ManageAction.UNPIN: "no steps are kept for {0} any more",
}


def add_to(workers: click.Group) -> None:
    """Make these commands part of `tasker-zmq workers`."""
    for command in (drain, disable, enable, pin, unpin, ping):
        workers.add_command(command)


def _why_options(command: Callable[P, R]) -> Callable[P, R]:
    why = click.option("--why", metavar="TEXT", default="", help="The reason, which is kept.")
    by = click.option(
        "--by", metavar="WHO", help="Who decides. [default: you, as the system knows you]"
    )
    return why(by(output_option(command)))


@click.command()
@click.argument("name")
@_why_options
@click.pass_obj
def drain(invocation: Invocation, *, name: str, why: str, by: str | None, output: Output) -> None:
    """Send worker NAME nothing new; it ends what it has. For stopping it without a loss."""
    asked = ManageWorker(worker_name=name, action=ManageAction.DRAIN, why=why, by=by)
    _manage(invocation, asked, output=output)


@click.command()
@click.argument("name")
@_why_options
@click.pass_obj
def disable(invocation: Invocation, *, name: str, why: str, by: str | None, output: Output) -> None:
    """Treat worker NAME as if it were gone, whatever it says, until it is enabled.

    What it has goes elsewhere at once; steps that must not run twice and have begun are in doubt.
    """
    asked = ManageWorker(worker_name=name, action=ManageAction.DISABLE, why=why, by=by)
    _manage(invocation, asked, output=output)


@click.command()
@click.argument("name")
@_why_options
@click.pass_obj
def enable(invocation: Invocation, *, name: str, why: str, by: str | None, output: Output) -> None:
    """Give worker NAME work again, and close its breakers."""
    asked = ManageWorker(worker_name=name, action=ManageAction.ENABLE, why=why, by=by)
    _manage(invocation, asked, output=output)


@click.command()
@click.argument("name")
@click.option("--task-name", metavar="NAMESPACE/NAME[@VERSION]", help="Steps of this workflow.")
@click.option("--handler", metavar="HANDLER", help="Steps with this handler.")
@click.option("--task-id", type=click.IntRange(1), help="Steps of this one task.")
@_why_options
@click.pass_obj
def pin(
    invocation: Invocation,
    *,
    name: str,
    task_name: str | None,
    handler: str | None,
    task_id: int | None,
    why: str,
    by: str | None,
    output: Output,
) -> None:
    """Send some steps to worker NAME and to nobody else, whatever it declared.

    While it cannot take them they wait. It has to have their handlers.
    """
    if sum(each is not None for each in (task_name, handler, task_id)) != 1:
        raise click.UsageError("give one of --task-name, --handler and --task-id")
    target = PinTarget(
        named_task=task_name,
        handler_class=handler,
        task_id=None if task_id is None else TaskId(task_id),
    )
    asked = ManageWorker(worker_name=name, action=ManageAction.PIN, pin=target, why=why, by=by)
    _manage(invocation, asked, output=output)


@click.command()
@click.argument("name")
@_why_options
@click.pass_obj
def unpin(invocation: Invocation, *, name: str, why: str, by: str | None, output: Output) -> None:
    """Take all pins of worker NAME back."""
    asked = ManageWorker(worker_name=name, action=ManageAction.UNPIN, why=why, by=by)
    _manage(invocation, asked, output=output)


def _manage(invocation: Invocation, asked: ManageWorker, *, output: Output) -> None:
    with CommandClient(invocation.settings.endpoints.commands) as client:
        answer = client.ask("ManageWorker", asked)
    managed = codec.decode_data(answer, WorkerManaged)
    if output is Output.JSON:
        print_json(msgspec.to_builtins(managed))
        return
    click.echo(_SAID[asked.action].format(managed.worker_name))


@click.command()
@click.argument("name")
@click.option(
    "--timeout", metavar="TIME", callback=seconds, help="Wait no longer than this. [default: 5s]"
)
@output_option
@click.pass_obj
def ping(invocation: Invocation, *, name: str, timeout: float | None, output: Output) -> None:
    """Ask worker NAME for a sign of life, by the daemon's own connection to it."""
    patience = PING_SECONDS if timeout is None else timeout
    asked = PingWorker(worker_name=name, timeout_ms=max(1, round(patience * 1_000)))
    with CommandClient(invocation.settings.endpoints.commands) as client:
        answer = client.ask("PingWorker", asked, timeout_seconds=patience + ANSWER_SECONDS_MORE)
    told = codec.decode_data(answer, WorkerPinged)
    values = {
        "worker": told.worker_name,
        "round_trip_ms": told.round_trip_ms,
        "core_id": told.core_id,
        "session_id": told.session_id,
        "subscribed": told.subscribed,
    }
    print_object(values, output=output)
