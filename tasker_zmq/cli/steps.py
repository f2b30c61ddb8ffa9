"""`tasker-zmq steps`: one step with all that happened to it, and what people decide about it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import click
import msgspec

from tasker_zmq.cli.choosing import the_step
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.control import (
    ANSWER_SECONDS_MAX,
    decide,
    decision_options,
    in_pages,
    raise_refused,
    results_option,
    tell,
    the_reason,
)
from tasker_zmq.cli.database import read_clock, reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json
from tasker_zmq.cli.sections import print_fields, print_section
from tasker_zmq.domain.control import StepAction
from tasker_zmq.domain.explanation import span
from tasker_zmq.domain.ids import StepId
from tasker_zmq.errors import NotFoundError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.control import ControlSteps
from tasker_zmq.protocol.executing import BatchesSent, ExecuteBatch
from tasker_zmq.store.reads import steps as reads
from tasker_zmq.store.reads.standing import error_text


@click.group()
def steps() -> None:
    """Show steps with their attempts and results; retry, resolve, cancel, send them."""


@steps.command()
@click.argument("step", metavar="ID|TASK/STEP")
@output_option
@click.pass_obj
def show(invocation: Invocation, *, step: str, output: Output) -> None:
    """Show a step, by its id or as TASK/STEP (12/ship_order): attempts, batches, messages."""
    with reading(invocation) as connection:
        step_id = the_step(connection, step)
        shown = reads.show(connection, step_id)
    if shown is None:
        raise NotFoundError(
            f"no step has the id {step_id}; `tasker-zmq tasks show TASK -o json` lists a task's"
        )
    if output is Output.JSON:
        print_json(shown)
        return
    _print(shown)


def _print(shown: Mapping[str, Any]) -> None:
    now = read_clock()
    took = None
    if shown["finished_at"] is not None and shown["started_at"] is not None:
        took = span((shown["finished_at"] - shown["started_at"]).total_seconds())
    tries = shown["tries"] if shown["retryable"] else 1
    backoff = f"{shown['backoff']} {shown['backoff_base_ms']}..{shown['backoff_ceiling_ms']} ms"
    print_fields(
        {
            "step": f"{shown['step_id']} {shown['name']}",
            "task": f"{shown['task_id']} {shown['workflow']}",
            "state": shown["state"],
            "attempts": f"{shown['attempts']} of {tries}",
            "losses": shown["losses"] or None,
            "next_attempt": shown["next_attempt_at"],
            "started": shown["started_at"],
            "took": took,
            "worker": shown["worker"],
            "handler": shown["handler_class"],
            "handler_config": shown["handler_config"],
            "retries": backoff if shown["retryable"] else "not retryable",
            "timeout_seconds": shown["timeout_seconds"],
            "waits_for": ", ".join(
                f"{each['name']} ({each['state']})" for each in shown["parents"]
            ),
            "before": ", ".join(each["name"] for each in shown["children"]),
            "error": error_text(shown["error"]),
            "results": shown["results"],
        },
        now=now,
    )
    attempts = ["attempt", "batch_id", "batch_uuid", "state", "worker", "created_at"]
    print_section("batches that carried it", shown["batches"], attempts, now=now)
    arrows = ["sort_key", "event", "from_state", "to_state", "created_at"]
    if any(arrow["by"] for arrow in shown["transitions"]):
        arrows += ["by", "why"]
    print_section("transitions", shown["transitions"], arrows, now=now)
    said = ["ledger_id", "batch_id", "status", "verdict", "worker", "sequence", "received_at"]
    print_section("messages", shown["messages"], said, now=now)
    letters = ["dead_letter_id", "reason", "status", "created_at"]
    print_section("dead letters", shown["dead_letters"], letters, now=now)


_DONE: Final[Mapping[StepAction, str]] = {
    StepAction.RETRY: "retried",
    StepAction.RESOLVE: "resolved",
    StepAction.CANCEL: "cancelled",
}


def _named_steps(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command steps, `--why` and `--by`."""
    words = click.argument("words", metavar="ID|TASK/STEP...", nargs=-1, required=True)
    decorated: Callable[..., None] = output_option(words(decision_options(command)))
    return decorated


@steps.command()
@_named_steps
@click.pass_obj
def retry(
    invocation: Invocation,
    *,
    words: tuple[str, ...],
    why: str | None,
    by: str | None,
    output: Output,
) -> None:
    """Try steps again that failed or are in doubt, with all their tries; or at once what waits."""
    request = ControlSteps(action=StepAction.RETRY, step_ids=(), why=the_reason(why), by=by)
    _carry_out(invocation, request, words, output=output)


@steps.command()
@_named_steps
@results_option
@click.pass_obj
def resolve(
    invocation: Invocation,
    *,
    words: tuple[str, ...],
    why: str | None,
    by: str | None,
    result: msgspec.Raw,
    output: Output,
) -> None:
    """Take steps for done, with a result of yours; what waits for them goes on."""
    request = ControlSteps(
        action=StepAction.RESOLVE, step_ids=(), why=the_reason(why), by=by, results=result
    )
    _carry_out(invocation, request, words, output=output)


@steps.command()
@_named_steps
@click.pass_obj
def cancel(
    invocation: Invocation,
    *,
    words: tuple[str, ...],
    why: str | None,
    by: str | None,
    output: Output,
) -> None:
    """Give steps up that do not run; what waits for them will not run either."""
    request = ControlSteps(action=StepAction.CANCEL, step_ids=(), why=the_reason(why), by=by)
    _carry_out(invocation, request, words, output=output)


@steps.command()
@click.argument("words", metavar="ID|TASK/STEP...", nargs=-1, required=True)
@click.option("--worker", metavar="NAME", required=True, help="Who is to run them.")
@output_option
@click.pass_obj
def send(invocation: Invocation, *, words: tuple[str, ...], worker: str, output: Output) -> None:
    """Send steps that are ready to worker NAME now, before whatever else waits for it."""
    with reading(invocation) as connection:
        ids = [the_step(connection, word) for word in words]
    with CommandClient(invocation.settings.endpoints.commands) as client:
        told = [
            codec.decode_data(
                client.ask(
                    "ExecuteBatch",
                    ExecuteBatch(worker_name=worker, step_ids=tuple(map(StepId, page))),
                    timeout_seconds=ANSWER_SECONDS_MAX,
                ),
                BatchesSent,
            )
            for page in in_pages(ids)
        ]
    batches = [batch for page in told for batch in page.batches]
    refused = [refusal for page in told for refusal in page.refused]
    if output is Output.JSON:
        print_json(
            msgspec.to_builtins({"worker_name": worker, "batches": batches, "refused": refused})
        )
    else:
        count = sum(len(batch.step_ids) for batch in batches)
        names = ", ".join(batch.batch_id for batch in batches)
        click.echo(f"{count} sent to {worker}" + (f" in {names}" if names else ""))
    if refused:
        raise_refused(refused)


def _carry_out(
    invocation: Invocation, request: ControlSteps, words: tuple[str, ...], *, output: Output
) -> None:
    with reading(invocation) as connection:
        ids = [the_step(connection, word) for word in words]
    requests = [msgspec.structs.replace(request, step_ids=page) for page in in_pages(ids)]
    done = _DONE[request.action]
    tell(decide(invocation, requests), done, already=done, output=output)
