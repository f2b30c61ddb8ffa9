"""`tasker-zmq workers`: who is connected, how busy, and what was decided about each."""

from collections.abc import Mapping
from typing import Any, Final

import click

from tasker_zmq.cli import workers_control
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import (
    Output,
    output_option,
    print_json,
    print_object,
    print_rows,
    say,
)
from tasker_zmq.cli.workers_shutdown import shutdown
from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.errors import NotFoundError
from tasker_zmq.store import administration
from tasker_zmq.store.reads import workers as reads

NAMES_SHOWN_MAX: Final = 3
_COLUMNS: Final = (
    "worker_name",
    "core_id",
    "status",
    "load",
    "last_heartbeat_at",
    "handlers",
    "workflows",
)
_SESSION_COLUMNS: Final = ("session_id", "core_id", "status", "load", "last_heartbeat_at")
_HANDLER_COLUMNS: Final = ("handler_class", "breaker", "failures", "next_try_at", "last_error")
_REACH_COLUMNS: Final = ("core_id", "transport", "reachable", "last_verified_at")
_LISTS: Final = ("sessions", "handlers", "reachability", "tasks", "declared_tasks", "pins")
_TASK_COLUMNS: Final = ("workflow", "priority", "configuration")
_PIN_COLUMNS: Final = ("named_task", "handler_class", "task_id", "decided_by", "why", "created_at")


@click.group()
def workers() -> None:
    """List the workers, show one; drain, disable, enable, pin and ping them."""


workers_control.add_to(workers)


workers.add_command(shutdown)


@workers.command(name="list")
@click.option("--all", "everyone", is_flag=True, help="Also those that are not connected.")
@output_option
@click.pass_obj
def list_workers(invocation: Invocation, *, everyone: bool, output: Output) -> None:
    """List the connected workers: load, last heartbeat, what they can run.

    A worker has a line for each daemon that it serves; of what it may hold in all, the load shows
    what it grants to that one.
    """
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


@workers.command()
@click.argument("name")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, name: str, output: Output) -> None:
    """Show worker NAME: its sessions and handlers, which daemons reach it, what was decided."""
    now = read_clock()
    with reading(invocation) as connection:
        found = reads.show(connection, name, now=now)
        near = None if found else administration.nearest(connection, name)
    if found is None:
        hint = f"; did you mean '{near}'?" if near else ""
        raise NotFoundError(f"no worker '{name}' has ever registered{hint}")
    if output is Output.JSON:
        print_json(found)
        return
    lists = {key: found.pop(key) for key in _LISTS}
    print_object({**found.pop("metadata"), **found}, output=output, now=now)
    for title, columns, rows in (
        (
            "sessions",
            _SESSION_COLUMNS,
            [{**each, **_of_session(each)} for each in lists["sessions"]],
        ),
        ("handlers", _HANDLER_COLUMNS, lists["handlers"]),
        (
            "reachability",
            _REACH_COLUMNS,
            [{**each, **_of_reachability(each)} for each in lists["reachability"]],
        ),
        ("workflows", _TASK_COLUMNS, lists["tasks"]),
        ("pins", _PIN_COLUMNS, lists["pins"]),
    ):
        if rows:
            click.echo(f"\n{title}")
            print_rows(rows, columns, output=output, now=now)


def _of_session(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"load": f"{row['current_load']}/{row['credit']}"}


def _of_reachability(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {True: "yes", False: "no", None: "not known"}
    return {"reachable": words[row["is_reachable"]]}


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    status = row["status"]
    if not row["connected"] and row["unregistered_at"] is None:
        status = "daemon gone"  # what is stored outlives a daemon that was killed
    elif row["mode"] != WorkerMode.ENABLED:
        status = row["mode"] if row["connected"] else f"{status}, {row['mode']}"
    if row["open_breakers"]:
        count = len(row["open_breakers"])
        status = f"{status}, {count} breaker{'' if count == 1 else 's'} open"
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
