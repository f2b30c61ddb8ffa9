"""`tasker-zmq workers`: who is connected, and how busy."""

from collections.abc import Mapping
from typing import Any, Final

import click

from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.store.reads import workers as reads

NAMES_SHOWN_MAX: Final = 3
_COLUMNS: Final = ("worker_name", "status", "load", "last_heartbeat_at", "handlers", "workflows")


@click.group()
def workers() -> None:
    """List the workers and how they are."""


@workers.command(name="list")
@click.option("--all", "everyone", is_flag=True, help="Also those that are not connected.")
@output_option
@click.pass_obj
def list_workers(invocation: Invocation, *, everyone: bool, output: Output) -> None:
    """List the connected workers: load, last heartbeat, what they can run."""
    now = read_clock()
    with reading(invocation) as connection:
        known = reads.listed(connection, now=now)
    found = [row for row in known if everyone or row["connected"]]
    if output is Output.JSON:
        print_json(found)
        return
    print_rows([{**row, **_shortened(row)} for row in found], _COLUMNS, output=output, now=now)
    if len(found) < len(known):
        say(f"{len(known) - len(found)} more are not connected; --all shows them")


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    status = row["status"]
    if not row["connected"] and row["unregistered_at"] is None:
        status = "daemon gone"  # what is stored outlives a daemon that was killed
    return {
        "status": status,
        "load": f"{row['current_load']}/{row['credit']}",
        "handlers": len(row["handlers"]),
        "workflows": _few(row["supported_tasks"]),
    }


def _few(names: list[str]) -> str | None:
    more = len(names) - NAMES_SHOWN_MAX
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    return f"{shown} and {more} more" if more > 0 else shown or None
