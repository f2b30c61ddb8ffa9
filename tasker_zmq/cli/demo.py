"""`tasker-zmq demo`: an order fulfilment from an empty folder to a checked outcome, and away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from tasker_zmq.cli.demonstration.interruption import interruptible
from tasker_zmq.cli.demonstration.orders import DemoOrder, chosen, read_orders
from tasker_zmq.cli.demonstration.performance import Show, perform
from tasker_zmq.cli.demonstration.premises import ENVIRONMENT, without_settings
from tasker_zmq.cli.demonstration.progress import shown_progress
from tasker_zmq.cli.demonstration.report import as_object, print_page
from tasker_zmq.cli.demonstration.shipped import Shipped, find_shipped
from tasker_zmq.cli.demonstration.stage import Plan
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json
from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.errors import TaskerError, TemplateError
from tasker_zmq.settings.environment import process_variables
from tasker_zmq.templates import load_file

ORDERS_MAX: Final = 10_000
WORKERS_MAX: Final = 32


@click.command()
@click.option(
    "--orders",
    "count",
    type=click.IntRange(1, ORDERS_MAX),
    default=25,
    show_default=True,
    help="How many orders; beyond 25 the shipped ones come again with other quantities.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=2,
    show_default=True,
    help="How many worker processes, of 4 threads each.",
)
@click.option("--seed", type=int, help="Shuffle the orders; the same seed, the same orders.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the database, the logs and the shop's books there.",
)
@output_option
@click.pass_obj
def demo(
    invocation: Invocation,
    *,
    count: int,
    workers: int,
    seed: int | None,
    keep: Path | None,
    output: Output,
) -> None:
    """Run an order fulfilment from end to end, check the outcome, and clean up.

    A database, a daemon and workers are started in a private folder; the orders of a shipped file
    go through them, a few with retries, one with a card that is declined. Nothing is left behind.
    """
    shipped = find_shipped()
    orders = chosen(read_orders(shipped.orders), count, seed=seed)
    plan = Plan(
        shipped=shipped,
        variables=without_settings(process_variables()),
        workers=workers,
        database_url=invocation.settings.database.url,
        keep=keep,
    )
    _run(plan, orders, output)


def _run(plan: Plan, orders: Sequence[DemoOrder], output: Output) -> None:
    clock = SystemClock()
    template = _template(plan.shipped)
    names = [step.name for step in template.steps]
    with (
        interruptible(clock) as interruption,
        shown_progress(names, orders=len(orders), clock=clock) as progress,
    ):
        show = Show(
            plan=plan,
            orders=orders,
            template=template,
            interruption=interruption,
            progress=progress,
        )
        try:
            outcome = perform(show)
        except SystemExit:
            progress.tell("stopped; what was started is gone")
            raise
    if output is Output.JSON:
        print_json(as_object(outcome))
    else:
        print_page(outcome, keep=plan.keep)
    if outcome.problems:
        raise TaskerError(f"the outcome is not the expected one: {outcome.problems[0]}")


def _template(shipped: Shipped) -> TaskTemplate:
    loaded = load_file(shipped.template, environment=ENVIRONMENT)
    if loaded.template is None:
        raise TemplateError("\n".join(str(each) for each in loaded.problems))
    return loaded.template
