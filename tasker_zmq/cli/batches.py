"""`tasker-zmq batches`: what was sent to whom, and both accounts of what came of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import click

from tasker_zmq.cli.choosing import the_batch, the_task
from tasker_zmq.cli.database import Database, opened, read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.domain.ids import BatchId
from tasker_zmq.domain.reconciliation import Reconciliation, ReconciliationStatus
from tasker_zmq.domain.states import BatchState
from tasker_zmq.errors import NotFoundError, TaskerError
from tasker_zmq.pipeline.reconcile import Comparison, recompute
from tasker_zmq.store.reads import batches as reads
from tasker_zmq.store.reads.batches import BatchFilter

PAGE: Final = 100
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


class DisagreementError(TaskerError):
    """What is stored of a batch is not what its ledger comes to."""


@click.group()
def batches() -> None:
    """List and show batches of steps, and compare their accounts again."""


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
@click.argument("named", metavar="[ID|UUID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Check every batch, in pages.")
@output_option
@click.pass_obj
def reconcile(
    invocation: Invocation, *, named: tuple[str, ...], every: bool, output: Output
) -> None:
    """Compare both accounts of batches again, as the ledger has them, with what was stored.

    It only reads. The exit code is 1 when a batch does not agree; one that is still pending, for
    messages of it may come, is counted and not compared.
    """
    if bool(named) is every:
        raise click.UsageError("name batches, or say --all")
    told = Counter[str]()
    disagreeing: list[Comparison] = []
    with opened(invocation) as database:
        for page in _pages(database) if every else _named(database, named):
            told.update("pending" if each.pending else "checked" for each in page)
            disagreeing += [each for each in page if not each.agrees]
    checked, agree = told["checked"], told["checked"] - len(disagreeing)
    if output is Output.JSON:
        found = [_disagreement(each) for each in disagreeing]
        counts = {"checked": checked, "agree": agree, "pending": told["pending"]}
        print_json({**counts, "disagreements": found})
    else:
        if disagreeing:
            rows = [_in_words(each) for each in disagreeing]
            print_rows(rows, ["batch_id", "stored", "computed"], output=output)
        click.echo(f"{checked} batches checked, {agree} agree; {told['pending']} are pending")
    if disagreeing:
        raise DisagreementError(
            f"{len(disagreeing)} batches are stored otherwise than their ledger says; "
            "please report it with the rows above"
        )


def _named(database: Database, named: Sequence[str]) -> Iterator[list[Comparison]]:
    with database.reading() as connection:
        batch_ids = {the_batch(connection, word) for word in named}
        found = recompute(connection, sorted(batch_ids))
    yield found


def _pages(database: Database) -> Iterator[list[Comparison]]:
    """Each page sees one moment, and none of them keeps the database from cleaning up for long."""
    after = BatchId(0)
    while True:
        with database.reading() as connection:
            batch_ids = reads.ids_after(connection, after, at_most=PAGE)
            if not batch_ids:
                return
            page = recompute(connection, batch_ids)
        yield page
        after = batch_ids[-1]


def _disagreement(comparison: Comparison) -> dict[str, Any]:
    return {
        "batch_id": comparison.batch_id,
        "stored": asdict(comparison.stored),
        "computed": asdict(comparison.computed),
    }


def _in_words(comparison: Comparison) -> dict[str, Any]:
    def told(found: Reconciliation) -> str:
        differences = [f"{each.kind} {each.step_id or ''}".rstrip() for each in found.differences]
        return f"{found.status}: {', '.join(differences)}" if differences else str(found.status)

    stored, computed = told(comparison.stored), told(comparison.computed)
    return {"batch_id": comparison.batch_id, "stored": stored, "computed": computed}


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
