"""`tasker-zmq cores`: the daemons on this database, what they own, and what they could start."""

from typing import Final

import click

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.claims import LEAVE_SECONDS_MAX, MutexReleased, ReleaseMutex
from tasker_zmq.store.reads import health
from tasker_zmq.store.reads import ready as reads

_CORES: Final = (
    "core_id", "alive", "epoch", "draining", "lease_expires_at", "tasks_held", "sessions",
)  # fmt: skip
_LOCKS: Final = ("lock_name", "owner_core_id", "held", "acquired_at", "expires_at")
_READY: Final = ("task_id", "workflow", "priority", "ready_steps", "core_id", "core_alive",
                 "claimed_at", "requested_at")  # fmt: skip


@click.group()
def cores() -> None:
    """List the daemons of this database, their locks, and the tasks that are ready."""


@cores.command(name="list")
@output_option
@click.pass_obj
def list_cores(invocation: Invocation, *, output: Output) -> None:
    """List the cores: lease, epoch, open tasks that they own, sessions of workers."""
    now = read_clock()
    with reading(invocation) as connection:
        held = reads.held(connection)
        found = [{**core, **held[core["core_id"]]} for core in health.cores(connection, now=now)]
    print_rows(found, _CORES, output=output, now=now)


@cores.command(name="locks")
@output_option
@click.pass_obj
def list_locks(invocation: Invocation, *, output: Output) -> None:
    """List the named locks for work that one core does for all."""
    now = read_clock()
    with reading(invocation) as connection:
        found = reads.locks(connection, now=now)
    print_rows(found, _LOCKS, output=output, now=now)


@cores.command(name="ready")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
@output_option
@click.pass_obj
def list_ready(invocation: Invocation, *, limit: int, output: Output) -> None:
    """List tasks that could start or go on now, and who owns them."""
    now = read_clock()
    with reading(invocation) as connection:
        found = reads.ready_tasks(connection, at_most=limit, now=now)
    print_rows(found, _READY, output=output, now=now)


@cores.command()
@click.argument("task_ids", type=int, nargs=-1, required=True, metavar="TASK...")
@click.option("--why", required=True, help="Kept with each of them.")
@click.option(
    "--leave", "leave_seconds", type=click.FloatRange(0, LEAVE_SECONDS_MAX), default=30.0,
    show_default=True, help="For so many seconds the daemon leaves them to others.",
)  # fmt: skip
@output_option
@click.pass_obj
def release(
    invocation: Invocation,
    /,
    *,
    task_ids: tuple[int, ...],
    why: str,
    leave_seconds: float,
    output: Output,
) -> None:
    """Let the daemon give tasks up to other cores, where no step is with a worker."""
    wanted = ReleaseMutex(
        task_ids=tuple(TaskId(each) for each in task_ids), why=why, leave_seconds=leave_seconds
    )
    with CommandClient(invocation.settings.endpoints.commands) as client:
        told = codec.decode_data(client.ask("ReleaseMutex", wanted), MutexReleased)
    if output is Output.JSON:
        print_json(
            {
                "core_id": told.core_id,
                "released": told.released,
                "in_flight": told.in_flight,
                "not_held": told.not_held,
            }
        )
        return
    outcomes = {"given up": told.released, "with a worker": told.in_flight,
                f"not of {told.core_id}, or over": told.not_held}  # fmt: skip
    for what, ids in outcomes.items():
        if ids:
            say(f"{what}: {', '.join(map(str, ids))}")
