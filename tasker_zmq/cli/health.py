"""`tasker-zmq health`: ask a running daemon how it is, and tell it by the exit code."""

from typing import Final

import click

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.client import ask_health
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_object
from tasker_zmq.errors import TaskerError

WELL: Final = ("ok", "draining")


class UnwellError(TaskerError):
    """The daemon answers, and says that it is not well."""


@click.command()
@click.option(
    "--timeout", default="3s", show_default=True, metavar="TIME", callback=seconds,
    help="How long to wait for the answer.",
)  # fmt: skip
@output_option
@click.pass_obj
def health(invocation: Invocation, *, timeout: float, output: Output) -> None:
    """Ask a running daemon how it is; exit 4 when none answers, 1 when it is not well."""
    answer = ask_health(invocation.settings.endpoints.health, timeout_seconds=timeout)
    print_object(answer, output=output)
    status = answer.get("status", WELL[0])
    if status not in WELL:
        raise UnwellError(f"the daemon says that it is {status}; `tasker-zmq doctor` looks closer")
