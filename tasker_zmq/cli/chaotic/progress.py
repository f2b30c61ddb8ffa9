"""Live progress on standard error: one line for each fault, and how far the load is below them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tasker_zmq.clock import Clock

LINE_SECONDS: Final = 10.0


class Progress(Protocol):
    """Who is told what happens."""

    def tell(self, sentence: str) -> None: ...

    def show(self, line: str) -> None: ...


@contextmanager
def shown_progress(clock: Clock) -> Iterator[Progress]:
    """A line that is always new where standard error is a terminal, else one now and then."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(clock)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield _Picture(live)


class _Lines:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at = clock.monotonic()

    def tell(self, sentence: str) -> None:
        click.echo(sentence, err=True)

    def show(self, line: str) -> None:
        now = self._clock.monotonic()
        if now - self._said_at >= LINE_SECONDS:
            self._said_at = now
            self.tell(line)


class _Picture:
    def __init__(self, live: Live) -> None:
        self._live = live

    def tell(self, sentence: str) -> None:
        self._live.console.print(Text(sentence, style="dim"))

    def show(self, line: str) -> None:
        self._live.update(Text(line, style="cyan"))
