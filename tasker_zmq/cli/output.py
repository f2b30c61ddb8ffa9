"""What commands print: results on stdout, as tables or JSON; chatter on stderr."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click
import orjson

P = ParamSpec("P")
R = TypeVar("R")


class Output(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"


def output_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `-o/--output`; it arrives as the keyword `output: Output`."""
    option: Callable[[Callable[P, R]], Callable[P, R]] = click.option(
        "-o",
        "--output",
        type=click.Choice([each.value for each in Output]),
        default=Output.TABLE.value,
        show_default=True,
        callback=lambda _ctx, _parameter, value: Output(value),
        help="A table for people, JSON for programs.",
    )
    return option(command)


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    output: Output,
    now: datetime | None = None,
) -> None:
    """Print rows: in a table the named columns, in JSON everything, as one array.

    `now` turns moments into `3 s ago` in a table; JSON always has them in full.
    """
    if output is Output.JSON:
        print_json(list(rows))
        return
    if not rows:
        say("nothing to show")
        return
    headings = [column.replace("_", " ") for column in columns]
    cells = [[row.get(column) for column in columns] for row in rows]
    _print_table(headings, cells, now=now)


def print_object(values: Mapping[str, Any], *, output: Output, now: datetime | None = None) -> None:
    """Print one thing: a line per name in a table, an object in JSON."""
    if output is Output.JSON:
        print_json(values)
        return
    _print_table(None, [[name.replace("_", " "), value] for name, value in values.items()], now=now)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    try:
        text = orjson.dumps(value, default=_plain, option=options)
    except TypeError:  # an integer above 64 bits or half a surrogate pair, from someone's context
        text = json.dumps(value, default=_plain, indent=2).encode() + b"\n"
    click.echo(text, nl=False)


def say(message: str) -> None:
    """Tell the person something that is not the result."""
    click.echo(message, err=True)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return dict(value)
        case tuple() | set() | frozenset():
            return list(value)
        case Path():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


_MINUTE: Final = 60
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (_MINUTE, "min"), (1, "s"))


def relative(moment: datetime, *, now: datetime) -> str:
    """`moment` as people say it: `3 s ago`, `in 2 min`, `now`."""
    seconds = (now - moment).total_seconds()
    for length, unit in _STEPS:
        if abs(seconds) >= length:
            amount = f"{int(abs(seconds) // length)} {unit}"
            return f"{amount} ago" if seconds > 0 else f"in {amount}"
    return "now"


def as_text(value: object, *, now: datetime | None) -> str:
    """A table's cell on one line; control characters, which could drive a terminal, are dropped."""
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = value.isoformat(timespec="seconds") if now is None else relative(value, now=now)
        case float():
            text = f"{value:,.2f}".rstrip("0").rstrip(".")
        case list() | tuple() | dict():
            text = json.dumps(value, default=str, ensure_ascii=False)
        case _:
            text = str(value)
    return "".join(each if each.isprintable() else " " for each in text)


def _print_table(
    headings: Sequence[str] | None, cells: Sequence[Sequence[object]], *, now: datetime | None
) -> None:
    # Imported here: commands that print JSON, and --help, need no rich.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=headings is not None, pad_edge=False, header_style="bold")
    for index in range(len(cells[0]) if cells else 0):
        table.add_column(
            headings[index] if headings is not None else "",
            justify="right" if _is_numeric(cells, index) else "left",
            overflow="fold",
            style="bold" if headings is None and index == 0 else None,
        )
    for row in cells:
        table.add_row(*(Text(as_text(value, now=now)) for value in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:  # a pipe has no width: programs want each row on one line
        console = Console(file=sys.stdout, highlight=False, width=_PIPE_WIDTH)
    console.print(table)


_PIPE_WIDTH: Final = 100_000


def _is_numeric(cells: Sequence[Sequence[object]], index: int) -> bool:
    column = [row[index] for row in cells if row[index] is not None]
    return bool(column) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in column
    )
