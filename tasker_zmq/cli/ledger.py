"""`tasker-zmq ledger`: every message as it was received, and what became of it."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import click
import orjson

from tasker_zmq.cli.choosing import the_batch, the_task
from tasker_zmq.cli.database import Database, opened, read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, as_text, output_option, print_json, print_rows, say
from tasker_zmq.cli.sections import print_fields
from tasker_zmq.domain.results import Verdict
from tasker_zmq.errors import NotFoundError
from tasker_zmq.store.reads import ledger as reads
from tasker_zmq.store.reads.ledger import LedgerFilter
from tasker_zmq.store.reads.numbers import ID_MAX

LOOK_SECONDS: Final = 0.5
LOOK_BACK: Final = 500  # several cores may commit their rows in another order than they number them
_WIDTHS: Final = {
    "id": 8,
    "received_at": 20,
    "message_type": 16,
    "status": 11,
    "verdict": 13,
    "batch_id": 8,
    "step": 20,
    "worker": 16,
    "reason": 0,
}


@click.group()
def ledger() -> None:
    """Read every message as it was received."""


@ledger.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--batch", metavar="ID|UUID", help="Only about this batch.")
@click.option("--task", metavar="ID|KEY", help="Only about this task.")
@click.option(
    "--type", "message_type", metavar="TYPE", help="Only partial_result, batch_completion, ..."
)
@click.option("--verdict", type=click.Choice([each.value for each in Verdict]))
@click.option("--limit", type=click.IntRange(1, reads.LIMIT_MAX), default=20, show_default=True)
@output_option
@click.pass_obj
def tail(
    invocation: Invocation,
    *,
    follow: bool,
    batch: str | None,
    task: str | None,
    message_type: str | None,
    verdict: str | None,
    limit: int,
    output: Output,
) -> None:
    """Print the newest messages, the oldest of them first; with -f a line for each, JSON lines."""
    with opened(invocation) as database:
        with database.reading() as connection:
            wanted = LedgerFilter(
                batch_id=the_batch(connection, batch) if batch else None,
                task_id=the_task(connection, task) if task else None,
                message_type=message_type,
                verdict=verdict,
                limit=limit,
            )
            found = reads.tail(connection, wanted)
        if follow:
            _print_lines(found, output)
            for rows in _newer(database, wanted, found):
                _print_lines(rows, output)
            return
    if output is Output.JSON:
        print_json(found)
        return
    print_rows([_shortened(row) for row in found], tuple(_WIDTHS), output=output, now=read_clock())


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "reason": _reason(row["processing_errors"])}


def _reason(errors: Any) -> str | None:
    """Why it was not simply applied, as the ledger has it."""
    if not isinstance(errors, Mapping):
        return None
    return ": ".join(str(errors[key]) for key in ("reason", "detail") if errors.get(key))


def _newer(
    database: Database, wanted: LedgerFilter, found: list[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """What comes after `found`, for ever; each row once."""
    first = newest = found[-1]["id"] if found else 0
    seen: set[int] = set()
    pause = threading.Event()
    while True:
        pause.wait(LOOK_SECONDS)
        behind = replace(wanted, limit=reads.LIMIT_MAX, after_id=max(first, newest - LOOK_BACK))
        with database.reading() as connection:
            rows = reads.tail(connection, behind)
        fresh = [row for row in rows if row["id"] not in seen]
        if fresh:
            yield fresh
            newest = max(newest, fresh[-1]["id"])
            seen |= {row["id"] for row in fresh}
            seen = {each for each in seen if each > newest - LOOK_BACK}


def _print_lines(rows: list[dict[str, Any]], output: Output) -> None:
    for row in rows:
        if output is Output.JSON:
            click.echo(orjson.dumps(row, option=orjson.OPT_UTC_Z))
            continue
        shown = _shortened(row)
        moment = shown["received_at"].strftime("%Y-%m-%dT%H:%M:%SZ")
        shown |= {"reason": shown["reason"] or "", "received_at": moment}
        cells = [as_text(shown[name], now=None).ljust(_WIDTHS[name]) for name in _WIDTHS]
        click.echo(" ".join(cells).rstrip())


@ledger.command()
@click.argument("entry", metavar="ID", type=click.IntRange(1, ID_MAX))
@click.option("--raw", is_flag=True, help="Only what came, to the byte.")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, entry: int, raw: bool, output: Output) -> None:
    """Show one message: what became of it, and its text as it came."""
    with reading(invocation) as connection:
        shown = reads.show(connection, entry)
    if shown is None:
        raise NotFoundError(
            f"the ledger has no message {entry}; `tasker-zmq ledger tail` shows the newest"
        )
    came: bytes = shown["raw_bytes"] or (shown["raw_text"] or "").encode()
    if raw:
        click.echo(came, nl=False)
        return
    text = came.decode("utf-8", "backslashreplace")
    values = {key: value for key, value in shown.items() if key not in ("raw_text", "raw_bytes")}
    if output is Output.JSON:
        print_json({**values, "raw_is_json": shown["raw_bytes"] is None, "raw": text})
        return
    print_fields(values, now=read_clock())
    click.echo("\nas it came")
    click.echo("".join(each if each.isprintable() or each == "\n" else "." for each in text))
    if "\n" not in text and not text.isprintable():
        say("dots stand for what a terminal must not see; --raw has it all")
