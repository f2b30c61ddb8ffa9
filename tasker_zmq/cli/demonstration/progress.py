"""Live progress on standard error: a picture on a terminal, plain lines in a pipe."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasker_zmq.cli.demonstration.figures import Standing
from tasker_zmq.clock import Clock
from tasker_zmq.domain.states import StepState

LINE_SECONDS: Final = 1.0
BAR_WIDTH: Final = 40
SHOWN_STATES: Final = (
    StepState.PENDING,
    StepState.IN_PROGRESS,
    StepState.WAITING_FOR_RETRY,
    StepState.COMPLETE,
    StepState.ERROR,
)
STYLES: Final = {
    StepState.IN_PROGRESS: "cyan",
    StepState.WAITING_FOR_RETRY: "yellow",
    StepState.COMPLETE: "green",
    StepState.ERROR: "red",
}


class Progress(Protocol):
    """Who is told how far the work is."""

    def tell(self, sentence: str) -> None: ...

    def show(self, standing: Standing) -> None: ...


@contextmanager
def shown_progress(steps: Sequence[str], *, orders: int, clock: Clock) -> Iterator[Progress]:
    """A picture where standard error is a terminal, else lines; `steps` are names in order."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(orders, clock)
        return
    with Live(console=console, refresh_per_second=12, transient=True) as live:
        yield _Picture(live, steps, orders)


class _Lines:
    """At most one line a second, and one when all is done."""

    def __init__(self, orders: int, clock: Clock) -> None:
        self._orders = orders
        self._clock = clock
        self._said_at: float | None = None
        self._said = ""

    def tell(self, sentence: str) -> None:
        click.echo(sentence, err=True)

    def show(self, standing: Standing) -> None:
        now = self._clock.monotonic()
        done = standing.ended_tasks >= self._orders
        if self._said_at is not None and now - self._said_at < LINE_SECONDS and not done:
            return
        line = f"orders: {standing.ended_tasks} of {self._orders} ended; {_in_words(standing)}"
        if line != self._said:
            self.tell(line)
            self._said_at, self._said = now, line


class _Picture:
    """A bar of orders over a table of steps by state."""

    def __init__(self, live: Live, steps: Sequence[str], orders: int) -> None:
        self._live = live
        self._steps = steps
        self._orders = orders

    def tell(self, sentence: str) -> None:
        self._live.console.print(Text(sentence, style="dim"))

    def show(self, standing: Standing) -> None:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._orders, completed=standing.ended_tasks, width=BAR_WIDTH)
        head.add_row("orders", bar, f"{standing.ended_tasks} of {self._orders}")
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("step")
        for state in SHOWN_STATES:
            table.add_column(state.value.replace("_", " "), justify="right")
        for name in self._steps:
            table.add_row(name, *(_cell(standing, name, state) for state in SHOWN_STATES))
        self._live.update(Group(head, table, Text(f"retries so far: {standing.retries}")))


def _cell(standing: Standing, name: str, state: StepState) -> Text:
    count = standing.steps.get((name, state.value), 0)
    return Text(str(count) if count else ".", style=STYLES.get(state, "") if count else "dim")


def _in_words(standing: Standing) -> str:
    counts = {
        state: sum(n for (_, found), n in standing.steps.items() if found == state.value)
        for state in SHOWN_STATES
    }
    words = [f"{n} {state.value.replace('_', ' ')}" for state, n in counts.items() if n]
    return f"steps: {', '.join(words) or 'none'}; retries: {standing.retries}"
