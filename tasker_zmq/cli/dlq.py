"""`tasker-zmq dlq`: dead letters, which nobody tries again unless a person decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Final

import click
import msgspec

from tasker_zmq.cli.choosing import WorkflowName, seconds, the_task, workflow_name
from tasker_zmq.cli.control import (
    decide,
    decision_options,
    in_pages,
    results_option,
    tell,
    the_reason,
)
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_object, print_rows, say
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.domain.control import LetterAction
from tasker_zmq.domain.results import DeadLetterReason
from tasker_zmq.errors import NotFoundError
from tasker_zmq.protocol.control import NULL, DeadLetterFilter, DecideDeadLetters
from tasker_zmq.store.reads import dead_letters as reads
from tasker_zmq.store.reads.dead_letters import LetterFilter
from tasker_zmq.store.reads.standing import error_text
from tasker_zmq.store.tables import DeadLetterStatus

MESSAGE_CHARACTERS_MAX: Final = 60
ANY_STATUS: Final = "all"
_DONE: Final[Mapping[LetterAction, DeadLetterStatus]] = {
    LetterAction.REQUEUE: DeadLetterStatus.REQUEUED,
    LetterAction.RESOLVE: DeadLetterStatus.RESOLVED,
    LetterAction.DISCARD: DeadLetterStatus.DISCARDED,
}
_LISTED: Final = ("dead_letter_id", "reason", "task_id", "step", "message", "created_at")
_GROUPED: Final = ("count", "fingerprint", "workflow", "step", "last", "message")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The filter as it was typed: a task by its id or key, `since` in seconds."""

    reason: str | None
    task: str | None
    namespace: str | None
    workflow: WorkflowName | None
    step: str | None
    fingerprint: str | None
    since: float | None

    @property
    def anything(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__dataclass_fields__)

    def filter(self, invocation: Invocation, *, status: str | None) -> LetterFilter:
        """As the database knows it; raises NotFoundError for a task that is not there."""
        task_id = None
        if self.task is not None:
            with reading(invocation) as connection:
                task_id = the_task(connection, self.task)
        named = self.workflow
        return LetterFilter(
            reason=self.reason,
            task_id=task_id,
            namespace=(named.namespace if named else None) or self.namespace,
            workflow=named.name if named else None,
            version=named.version if named else None,
            step=self.step,
            fingerprint=self.fingerprint,
            status=status,
            since=None if self.since is None else read_clock() - timedelta(seconds=self.since),
        )


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose letters; they arrive as the keyword `chosen`."""

    @wraps(command)
    def with_chosen(*arguments: Any, **given: Any) -> None:
        chosen = Chosen(**{name: given.pop(name) for name in Chosen.__dataclass_fields__})
        command(*arguments, chosen=chosen, **given)

    options = (
        click.option("--reason", type=click.Choice([each.value for each in DeadLetterReason])),
        click.option("--task", metavar="ID|KEY", help="Only of this task."),
        click.option("--namespace", help="Only of workflows in this namespace."),
        click.option("--workflow", callback=workflow_name, metavar="[NAMESPACE/]NAME[@VERSION]"),
        click.option("--step", metavar="NAME", help="Only of steps with this name."),
        click.option("--fingerprint", help="Only of errors that look alike; see `dlq groups`."),
        click.option(
            "--since", metavar="TIME", callback=seconds, help="Only of the last 30m, 2h, ..."
        ),
    )
    decorated: Callable[..., None] = with_chosen
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def status_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--status`; it arrives as None when any will do."""
    option = click.option(
        "--status",
        type=click.Choice([*(each.value for each in DeadLetterStatus), ANY_STATUS]),
        default=DeadLetterStatus.OPEN.value,
        show_default=True,
        callback=lambda _ctx, _parameter, value: None if value == ANY_STATUS else value,
    )
    decorated: Callable[..., None] = option(command)
    return decorated


@click.group()
def dlq() -> None:
    """See steps that nobody tries again, and decide about them."""


@dlq.command(name="list")
@filter_options
@status_option
@click.option("--limit", type=click.IntRange(1, reads.LIMIT_MAX), default=20, show_default=True)
@click.option("--before", type=click.IntRange(1), metavar="ID", help="Only older than this one.")
@output_option
@click.pass_obj
def list_letters(
    invocation: Invocation,
    *,
    chosen: Chosen,
    status: str | None,
    limit: int,
    before: int | None,
    output: Output,
) -> None:
    """List dead letters, the newest first."""
    wanted = chosen.filter(invocation, status=status)
    with reading(invocation) as connection:
        found = reads.listed(connection, wanted, limit=limit, before=before)
    if output is Output.JSON:
        print_json(found)
        return
    rows = [{**row, "message": _shortened(row["message"])} for row in found]
    print_rows(rows, _LISTED, output=output, now=read_clock())
    if len(found) == limit:
        say(f"there may be more: --before {found[-1]['dead_letter_id']}")


@dlq.command()
@filter_options
@status_option
@click.option("--limit", type=click.IntRange(1, reads.LIMIT_MAX), default=20, show_default=True)
@output_option
@click.pass_obj
def groups(
    invocation: Invocation, *, chosen: Chosen, status: str | None, limit: int, output: Output
) -> None:
    """Count dead letters whose errors look alike, by step, the largest group first."""
    wanted = chosen.filter(invocation, status=status)
    with reading(invocation) as connection:
        found = reads.groups(connection, wanted, limit=limit)
    if output is Output.JSON:
        print_json(found)
        return
    rows = [{**row, "message": _shortened(row["message"])} for row in found]
    print_rows(rows, _GROUPED, output=output, now=read_clock())
    if len(found) == limit:
        say("there may be more: raise --limit")


def _shortened(message: str | None) -> str | None:
    if message is None or len(message) <= MESSAGE_CHARACTERS_MAX:
        return message
    return f"{message[: MESSAGE_CHARACTERS_MAX - 3]}..."


@dlq.command()
@click.argument("dead_letter_id", metavar="ID", type=click.IntRange(1))
@output_option
@click.pass_obj
def show(invocation: Invocation, *, dead_letter_id: int, output: Output) -> None:
    """Show a dead letter: the error, how its step stands now, what was decided."""
    with reading(invocation) as connection:
        shown = reads.show(connection, dead_letter_id)
    if shown is None:
        raise NotFoundError(
            f"no dead letter has the id {dead_letter_id}; `tasker-zmq dlq list --status all` "
            "shows the newest"
        )
    if output is Output.JSON:
        print_json(shown)
        return
    _print(shown)


def _print(shown: Mapping[str, Any]) -> None:
    now, snapshot = read_clock(), shown["snapshot"]
    fields = {
        "dead_letter": shown["dead_letter_id"],
        "status": shown["status"],
        "reason": shown["reason"],
        "task": f"{shown['task_id']} {shown['workflow']}, {shown['task_state']} now",
        "step": f"{shown['step_id']} {shown['step']}, {shown['step_state']} now",
        "error": error_text(snapshot.get("error")),
        "attempts": snapshot.get("attempts"),
        "losses": snapshot.get("losses") or None,
        "worker": snapshot.get("worker_name"),
        "batch": snapshot.get("batch_id"),
        "fingerprint": shown["fingerprint"],
        "created": shown["created_at"],
        "decided": shown["decided_at"],
        "decided_by": shown["decided_by"],
        "why": shown["decision_reason"],
    }
    print_fields(fields, now=now)
    columns = ["dead_letter_id", "reason", "status", "created_at"]
    print_section("other dead letters of this step", shown["others"], columns, now=now)
    if shown["status"] == DeadLetterStatus.OPEN:
        id_ = shown["dead_letter_id"]
        say(f"decide with: tasker-zmq dlq requeue|resolve|discard {id_} --why TEXT")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which letters are meant, and whether to count them only."""

    ids: tuple[int, ...]
    chosen: Chosen
    everything: bool
    dry_run: bool


def order_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what the three that decide have in common, as the keyword `order`."""

    @wraps(command)
    def with_order(*arguments: Any, **given: Any) -> None:
        order = Order(**{name: given.pop(name) for name in Order.__dataclass_fields__})
        command(*arguments, order=order, **given)

    decorated = filter_options(with_order)
    for option in (
        click.option("--dry-run", is_flag=True, help="Say how many, and change nothing."),
        click.option("--all", "everything", is_flag=True, help="Every letter that is open."),
        click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1)),
    ):
        decorated = option(decorated)
    return output_option(decision_options(decorated))


@dlq.command()
@order_options
@click.pass_obj
def requeue(
    invocation: Invocation, *, order: Order, why: str | None, by: str | None, output: Output
) -> None:
    """Try steps again, with all their tries; their failed tasks go on."""
    asked = DecideDeadLetters(action=LetterAction.REQUEUE, why=why or "", by=by)
    _carry_out(invocation, asked, order, output=output)


@dlq.command()
@order_options
@results_option
@click.pass_obj
def resolve(
    invocation: Invocation,
    *,
    order: Order,
    why: str | None,
    by: str | None,
    result: msgspec.Raw,
    output: Output,
) -> None:
    """Take steps for done, with a result of yours; what waits for them goes on."""
    asked = DecideDeadLetters(action=LetterAction.RESOLVE, why=why or "", by=by, results=result)
    _carry_out(invocation, asked, order, output=output)


@dlq.command()
@order_options
@click.pass_obj
def discard(
    invocation: Invocation, *, order: Order, why: str | None, by: str | None, output: Output
) -> None:
    """Close letters and leave their steps as they are."""
    asked = DecideDeadLetters(action=LetterAction.DISCARD, why=why or "", by=by, results=NULL)
    _carry_out(invocation, asked, order, output=output)


def _carry_out(
    invocation: Invocation, asked: DecideDeadLetters, order: Order, *, output: Output
) -> None:
    ways = sum((bool(order.ids), order.chosen.anything, order.everything))
    if ways != 1:
        found = "found none of these" if ways == 0 else "found several of these"
        raise click.UsageError(
            f"wanted IDs, or a filter such as --fingerprint, or --all for every letter that is "
            f"open; {found}"
        )
    wanted = order.chosen.filter(invocation, status=DeadLetterStatus.OPEN)
    if order.dry_run:
        _print_count(invocation, asked.action, (order.ids, wanted), output=output)
        return
    the_reason(asked.why)
    outcome = decide(invocation, _requests(asked, order.ids, wanted))
    tell(outcome, _DONE[asked.action], already="decided", output=output)


def _requests(
    asked: DecideDeadLetters, ids: Sequence[int], wanted: LetterFilter
) -> list[DecideDeadLetters]:
    if ids:
        return [msgspec.structs.replace(asked, dead_letter_ids=page) for page in in_pages(ids)]
    matching = DeadLetterFilter(
        reason=wanted.reason,
        task_id=wanted.task_id,
        namespace=wanted.namespace,
        workflow=wanted.workflow,
        version=wanted.version,
        step=wanted.step,
        fingerprint=wanted.fingerprint,
        since=None if wanted.since is None else wanted.since.isoformat(),
    )
    return [msgspec.structs.replace(asked, filter=matching)]


def _print_count(
    invocation: Invocation,
    action: LetterAction,
    named: tuple[Sequence[int], LetterFilter],
    *,
    output: Output,
) -> None:
    ids, wanted = named
    with reading(invocation) as connection:
        count = reads.found_open(connection, ids) if ids else reads.counted(connection, wanted)
    if output is Output.JSON:
        print_object({"would_change": count}, output=output)
        return
    click.echo(f"{count} would be {_DONE[action]}; nothing was changed")
