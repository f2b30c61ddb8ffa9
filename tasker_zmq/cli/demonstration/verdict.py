"""Whether what happened is what the shipped file says should happen."""

from collections.abc import Iterator, Sequence

from tasker_zmq.cli.demonstration.figures import Figures
from tasker_zmq.cli.demonstration.orders import DemoOrder, expected_states
from tasker_zmq.cli.demonstration.witness import Hearing

SHOWN_MAX = 20


def problems(orders: Sequence[DemoOrder], figures: Figures, hearing: Hearing) -> tuple[str, ...]:
    """One sentence for each difference; empty when the outcome is the expected one."""
    return tuple(_differences(orders, figures))[:SHOWN_MAX] + hearing.problems[:SHOWN_MAX]


def _differences(orders: Sequence[DemoOrder], figures: Figures) -> Iterator[str]:
    wanted = expected_states(orders)
    if dict(figures.tasks) != wanted:
        yield f"tasks ended as {dict(figures.tasks)}, wanted {wanted}"
    for each in orders:
        found = figures.states.get(each.order_id, "no task")
        if found != each.state:
            yield f"{each.order_id} ended as {found}, wanted {each.state.value}"
    retries = sum(each.retries for each in orders)
    if figures.retries != retries:
        yield f"{figures.retries} retries, wanted {retries}"
    if not figures.consistent:
        yield (
            f"batches are {dict(figures.reconciliation)} with {figures.discrepancies} "
            "discrepancies, wanted all consistent"
        )
    if figures.odd_messages:
        yield f"messages were {dict(figures.odd_messages)}, wanted all applied"
    for broken in figures.violated:
        yield f"invariant {broken.invariant} is violated: {broken.subject}: {broken.detail}"
