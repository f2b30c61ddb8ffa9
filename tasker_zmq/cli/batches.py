"""`tasker-zmq batches`: what was sent to whom, and both accounts of what came of it."""

from collections.abc import Mapping
from typing import Any, Final

import click

from tasker_zmq.cli.choosing import the_batch, the_task
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.domain.reconciliation import ReconciliationStatus
from tasker_zmq.domain.states import BatchState
from tasker_zmq.errors import NotFoundError
from tasker_zmq.store.reads import batches as reads
from tasker_zmq.store.reads.batches import BatchFilter

_COLUMNS: Final = (
    "batch_id",
    "uuid",
    "state",
    "worker",
    "steps",
    "failed",
    "accounts",
    "created_at",
)


@click.group()
def batches() -> None:
    """List and show batches of steps."""


@batches.command(name="list")
@click.option("--state", type=click.Choice([each.value for each in BatchState]))
@click.option(
    "--accounts",
    "reconciliation",
    type=click.Choice([each.value for each in ReconciliationStatus]),
    help="Only with this outcome of comparing the two accounts.",
)
@click.option("--worker", help="Only those sent to this worker.")
@click.option("--task", metavar="ID|KEY", help="Only those that carried a step of this task.")
@click.option("--limit", type=click.IntRange(1, reads.LIMIT_MAX), default=20, show_default=True)
@click.option("--before", type=click.IntRange(1), metavar="ID", help="Only older than this batch.")
@output_option
@click.pass_obj
def list_batches(
    invocation: Invocation,
    *,
    state: str | None,
    reconciliation: str | None,
    worker: str | None,
    task: str | None,
    limit: int,
    before: int | None,
    output: Output,
) -> None:
    """List batches, the newest first."""
    with reading(invocation) as connection:
        wanted = BatchFilter(
            state=state,
            reconciliation=reconciliation,
            worker=worker,
            task_id=the_task(connection, task) if task else None,
            limit=limit,
            before_batch_id=before,
        )
        found = reads.listed(connection, wanted)
    if output is Output.JSON:
        print_json(found)
        return
    rows = [{**row, **_shortened(row)} for row in found]
    print_rows(rows, _COLUMNS, output=output, now=read_clock())
    if len(found) == limit:
        say(f"there may be more: --before {found[-1]['batch_id']}")


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table shows instead; the first 13 characters of a UUIDv7 are its moment."""
    return {
        "uuid": row["batch_uuid"][:13],
        "worker": row["worker"] or row["session_id"],
        "steps": f"{row['completed_steps'] + row['failed_steps']}/{row['batch_size']}",
        "failed": row["failed_steps"],
        "accounts": row["reconciliation_status"],
    }


@batches.command()
@click.argument("batch", metavar="ID|UUID")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, batch: str, output: Output) -> None:
    """Show a batch, by its id or the beginning of its uuid: steps, both accounts, differences."""
    with reading(invocation) as connection:
        batch_id = the_batch(connection, batch)
        shown = reads.show(connection, batch_id)
    if shown is None:
        raise NotFoundError(f"no batch has the id {batch_id}")
    if output is Output.JSON:
        print_json(shown)
        return
    _print(shown)


def _print(shown: Mapping[str, Any]) -> None:
    now = read_clock()
    ended = f"{shown['completed_steps']} completed, {shown['failed_steps']} failed"
    print_fields(
        {
            "batch": f"{shown['batch_id']} {shown['batch_uuid']}",
            "state": shown["state"],
            "worker": shown["worker"],
            "session": shown["session_id"],
            "steps": f"{ended}, {shown['batch_size']} in all",
            "partial_results": shown["partial_results_received"],
            "completion": "received" if shown["final_completion_received"] else "not received",
            "accounts": shown["reconciliation_status"],
            "deliveries": shown["deliveries"],
            "publication": shown["publication"],
            "timeout_seconds": shown["timeout_seconds"],
            "created": shown["created_at"],
            "published": shown["published_at"],
        },
        now=now,
    )
    carried = ["sequence_order", "step_id", "name", "task_id", "attempt", "state", "current"]
    print_section("steps", shown["steps"], carried, now=now)
    arrows = ["sort_key", "event", "from_state", "to_state", "created_at"]
    print_section("transitions", shown["transitions"], arrows, now=now)
    said = ["ledger_id", "step_id", "status", "verdict", "worker", "sequence", "received_at"]
    print_section("first account: results", shown["partial_results"], said, now=now)
    summed = ["ledger_id", "total_steps", "completed_steps", "failed_steps", "verdict"]
    print_section(
        "second account: completions", shown["completions"], [*summed, "received_at"], now=now
    )
    differences = ["kind", "step_id", "partial_says", "completion_says", "found_at"]
    print_section("differences", shown["discrepancies"], differences, now=now)
