"""Pages of several parts: one thing in lines, then tables under headings; one object in JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from tasker_zmq.cli.output import Output, print_object, print_rows


def print_section(
    title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, now: datetime
) -> None:
    """A table under its title; nothing at all when it has no rows."""
    if not rows:
        return
    click.echo(f"\n{title}")
    print_rows(rows, columns, output=Output.TABLE, now=now)


def print_fields(values: Mapping[str, Any], *, now: datetime) -> None:
    """A line per value; what is not there is left out."""
    present = {name: value for name, value in values.items() if value not in (None, [], {}, "")}
    print_object(present, output=Output.TABLE, now=now)
