"""What people decide, asked of the daemon page by page, and told as one outcome."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import click
import msgspec
import orjson

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, print_json, say
from tasker_zmq.client.link import NOT_FOUND
from tasker_zmq.errors import NotFoundError, RefusedError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
    Controlled,
    ControlSteps,
    ControlTasks,
    DecideDeadLetters,
    Refusal,
)

P = ParamSpec("P")
R = TypeVar("R")

REFUSALS_SHOWN_MAX: Final = 20
PAGES_MAX: Final = 100_000  # a hundred million: no database of ours has more
ANSWER_SECONDS_MAX: Final = 30.0
Request = ControlSteps | ControlTasks | DecideDeadLetters


@dataclass
class Outcome:
    """All pages together; an id that one page changed is changed, whatever later pages say."""

    changed: set[int] = field(default_factory=set)
    already: set[int] = field(default_factory=set)
    refused: dict[int, Refusal] = field(default_factory=dict)

    def add(self, page: Controlled) -> None:
        self.changed.update(page.changed)
        self.already.update(page.already)
        self.refused.update({refusal.id: refusal for refusal in page.refused})
        self.already -= self.changed
        for id_ in self.changed | self.already:
            self.refused.pop(id_, None)


def decision_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--why` and `--by`; they arrive as the keywords `why` and `by`."""
    why = click.option("--why", metavar="TEXT", help="The reason, which is kept; must be given.")
    by = click.option(
        "--by", metavar="WHO", help="Who decides. [default: you, as the system knows you]"
    )
    return why(by(command))


def the_reason(why: str | None) -> str:
    """What `--why` says; refuses to go on without it."""
    if why is None or not why.strip():
        raise click.UsageError("--why is missing: say why, in a few words; it is kept")
    return why


def results_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--result`; it arrives as the keyword `result`, JSON to the byte."""
    option: Callable[[Callable[P, R]], Callable[P, R]] = click.option(
        "--result",
        metavar="JSON",
        default="null",
        callback=json_value,
        help="What the steps are taken to have returned. [default: null]",
    )
    return option(command)


def json_value(ctx: click.Context, parameter: click.Parameter, value: str) -> msgspec.Raw:
    """A callback for an option whose value is JSON, kept to the byte."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as error:
        wanted = f"{error}; wanted JSON such as '{{\"paid\": true}}', in single quotes on a shell"
        raise click.BadParameter(wanted, ctx, parameter) from None
    return msgspec.Raw(value.strip().encode())


def decide(invocation: Invocation, requests: Sequence[Request]) -> Outcome:
    """Have the daemon carry the requests out, each to its last page."""
    outcome = Outcome()
    with CommandClient(invocation.settings.endpoints.commands) as client:
        for request in requests:
            for page in _pages(client, request):
                outcome.add(page)
    return outcome


def _pages(client: CommandClient, request: Request) -> Iterator[Controlled]:
    for _ in range(PAGES_MAX):
        answer = client.ask(type(request).__name__, request, timeout_seconds=ANSWER_SECONDS_MAX)
        page = codec.decode_data(answer, Controlled)
        yield page
        if page.after_id is None:
            return
        request = _following(request, page)


def _following(request: Request, page: Controlled) -> Request:
    after_id = page.after_id or 0
    if isinstance(request, DecideDeadLetters):
        return msgspec.structs.replace(request, after_id=after_id, up_to_id=page.up_to_id)
    return msgspec.structs.replace(request, after_id=after_id)


def in_pages(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """As many ids as one command may name, and the next ones."""
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), CONTROLLED_MAX):
        yield tuple(ordered[start : start + CONTROLLED_MAX])


def tell(outcome: Outcome, done: str, *, already: str, output: Output) -> None:
    """Print what came of it: `done` and `already` are words such as `requeued`.

    Raises NotFoundError or RefusedError behind it when something was left as it was.
    """
    if output is Output.JSON:
        print_json(_as_json(outcome))
    else:
        click.echo(f"{len(outcome.changed)} {done}")
        if outcome.already:
            say(f"{len(outcome.already)} were {already} already: {_some(outcome.already)}")
    if outcome.refused:
        raise_refused(list(outcome.refused.values()))


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "changed": sorted(outcome.changed),
        "already": sorted(outcome.already),
        "refused": [msgspec.to_builtins(each) for _, each in sorted(outcome.refused.items())],
    }


def raise_refused(refused: Sequence[Refusal]) -> NoReturn:
    """Raise what the daemon said of the first of them: NotFoundError, or RefusedError."""
    lines = [refusal.message for refusal in refused[:REFUSALS_SHOWN_MAX]]
    more = len(refused) - REFUSALS_SHOWN_MAX
    text = "\n".join([*lines, *([f"and {more} more were refused"] if more > 0 else [])])
    nowhere = all(refusal.code == NOT_FOUND for refusal in refused)
    raise NotFoundError(text) if nowhere else RefusedError(text)


def _some(ids: set[int]) -> str:
    more = len(ids) - REFUSALS_SHOWN_MAX
    shown = ", ".join(str(each) for each in sorted(ids)[:REFUSALS_SHOWN_MAX])
    return f"{shown} and {more} more" if more > 0 else shown
