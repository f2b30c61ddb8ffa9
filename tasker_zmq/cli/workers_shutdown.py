"""`tasker-zmq workers shutdown`: a worker ends as if it had been sent SIGTERM."""

import threading
from typing import Final

import click

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import opened
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, say
from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.errors import UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.management import ShutdownWorker, WorkerShutdown
from tasker_zmq.store.reads import workers as reads

LOOK_SECONDS: Final = 0.3


@click.command()
@click.argument("name")
@click.option("--why", default="", metavar="TEXT", help="The reason, for the logs.")
@click.option("--wait", is_flag=True, help="Return when the worker has left.")
@click.option(
    "--timeout", default="2m", show_default=True, metavar="TIME", callback=seconds,
    help="How long to wait for that.",
)  # fmt: skip
@output_option
@click.pass_obj
def shutdown(
    invocation: Invocation, *, name: str, why: str, wait: bool, timeout: float, output: Output
) -> None:
    """Have a worker take nothing more, let running steps end, and exit."""
    with CommandClient(invocation.settings.endpoints.commands) as client:
        answer = client.ask("ShutdownWorker", ShutdownWorker(worker_name=name, why=why))
    told = codec.decode_data(answer, WorkerShutdown)
    if wait:
        _await_goodbye(invocation, told, seconds_max=timeout)
    if output is Output.JSON:
        print_json({"worker_name": name, "session_ids": told.session_ids, "left": wait})
        return
    say(f"{name} {'has left' if wait else 'was told to end; --wait waits until it has left'}")


def _await_goodbye(invocation: Invocation, told: WorkerShutdown, *, seconds_max: float) -> None:
    clock, pause = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds_max
    with opened(invocation) as database:
        while True:
            with database.reading() as connection:
                staying = reads.still_open(connection, told.session_ids)
            if not staying:
                return
            if clock.monotonic() > until:
                raise UnreachableError(_still_there(told.worker_name, staying, seconds_max))
            pause.wait(LOOK_SECONDS)


def _still_there(name: str, staying: list[SessionId], seconds_max: float) -> str:
    return (
        f"worker '{name}' has not left within {seconds_max:g} s (session {staying[0]}); steps may "
        "still run: `tasker-zmq workers list`"
    )
