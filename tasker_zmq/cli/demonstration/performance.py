"""One performance: submit the orders, watch them to their end, hear the witness, judge."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.demonstration.figures import (
    Figures,
    Standing,
    read_figures,
    read_standing,
    unsettled_batches,
)
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.orders import DemoOrder
from tasker_zmq.cli.demonstration.premises import tell_last_words
from tasker_zmq.cli.demonstration.progress import Progress
from tasker_zmq.cli.demonstration.stage import Plan, Stage, set_up
from tasker_zmq.cli.demonstration.verdict import problems
from tasker_zmq.cli.demonstration.witness import Hearing, heard
from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.errors import UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.tasks import InitializeTask, TaskRequest

SUBMITTERS_MAX: Final = 8
ORDERS_PER_SUBMITTER: Final = 25
ANSWER_SECONDS_MAX: Final = 15.0
STANDSTILL_SECONDS_MAX: Final = 60.0
SETTLE_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Show:
    """What is performed, and before whom."""

    plan: Plan
    orders: Sequence[DemoOrder]
    template: TaskTemplate
    interruption: Interruption
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found; `problems` is empty when it is what the orders' file expects."""

    figures: Figures
    hearing: Hearing
    problems: tuple[str, ...]


def perform(show: Show) -> Outcome:
    """From an empty folder to the outcome; everything that was started is gone afterwards."""
    with set_up(show.plan, interruption=show.interruption, tell=show.progress.tell) as stage:
        _submit(show, stage)
        _watch(show, stage)
        _settle(show, stage)
        with stage.database.reading() as connection:
            figures = read_figures(connection)
        hearing = heard(
            stage.store,
            show.plan.shipped.catalogue,
            orders=show.orders,
            totals=figures.totals,
        )
        found = problems(show.orders, figures, hearing)
        if found:
            tell_last_words(stage.programs, kept_by=show.plan.kept_by, tell=show.progress.tell)
    return Outcome(figures=figures, hearing=hearing, problems=found)


def _submit(show: Show, stage: Stage) -> None:
    """Send every order; a few clients at once, for the daemon takes many in one transaction."""
    clients = max(1, min(SUBMITTERS_MAX, len(show.orders) // ORDERS_PER_SUBMITTER))
    shares = [show.orders[number::clients] for number in range(clients)]
    with ThreadPoolExecutor(clients, thread_name_prefix="submitter") as pool:
        pending = [pool.submit(_submit_share, show, stage, share=share) for share in shares]

        def done() -> bool:
            stage.check()
            show.progress.show(_standing(stage))
            return all(each.done() for each in pending)

        show.interruption.wait_until(done, seconds_max=STANDSTILL_SECONDS_MAX * len(show.orders))
        for each in pending:
            each.result()


def _submit_share(show: Show, stage: Stage, *, share: Sequence[DemoOrder]) -> None:
    with CommandClient(stage.commands) as client:
        for each in share:
            if show.interruption.is_wanted:
                return
            request = _request(show.template, each)
            client.ask("InitializeTask", request, timeout_seconds=ANSWER_SECONDS_MAX)


def _request(template: TaskTemplate, order: DemoOrder) -> InitializeTask:
    return InitializeTask(
        task_request=TaskRequest(
            namespace=template.namespace,
            name=template.name,
            version=template.version,
            context=codec.raw(order.context),
            identity=order.order_id,
            initiator="demo",
            source_system="tasker-zmq demo",
        )
    )


def _watch(show: Show, stage: Stage) -> None:
    """Until every task has ended; raises UnreachableError when nothing moves for long."""
    last: list[Standing] = []

    def moved_or_ended() -> bool:
        stage.check()
        standing = _standing(stage)
        show.progress.show(standing)
        moved = not last or standing != last[0]
        last[:] = [standing]
        return moved or not standing.open_tasks

    while show.interruption.wait_until(moved_or_ended, seconds_max=STANDSTILL_SECONDS_MAX):
        if not last[0].open_tasks:
            return
    raise UnreachableError(
        f"nothing has moved for {STANDSTILL_SECONDS_MAX:.0f} s, and {last[0].open_tasks} of "
        f"{len(show.orders)} orders have not ended"
    )


def _settle(show: Show, stage: Stage) -> None:
    """Wait for the last completions, so that every batch's two accounts are compared.

    A batch that is not settled in time is a finding, which the figures will show.
    """

    def settled() -> bool:
        stage.check()
        with stage.database.reading() as connection:
            return not unsettled_batches(connection)

    show.interruption.wait_until(settled, seconds_max=SETTLE_SECONDS_MAX)


def _standing(stage: Stage) -> Standing:
    with stage.database.reading() as connection:
        return read_standing(connection)
