"""What a person means by a word: a task, a step, a batch, a workflow; else the nearest one."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import click
from sqlalchemy import Connection

from tasker_zmq.domain.ids import BatchId, NamedTaskId, StepId, TaskId
from tasker_zmq.domain.urgency import priority_number
from tasker_zmq.errors import NotFoundError
from tasker_zmq.settings.units import parse_duration
from tasker_zmq.store import definitions
from tasker_zmq.store.reads import batches, steps, tasks, workflows
from tasker_zmq.store.reads.numbers import is_id

NEAR_MAX: Final = 3
_WORKFLOW: Final = re.compile(
    r"(?:(?P<namespace>[^/@\s]+)/)?(?P<name>[^@\s]+)(?:@(?P<version>[^/@\s]+))?"
)


@dataclass(frozen=True)
class WorkflowName:
    """`[NAMESPACE/]NAME[@VERSION]` in its parts; the newest version is meant without one."""

    namespace: str | None
    name: str
    version: str | None

    def __str__(self) -> str:
        before = f"{self.namespace}/" if self.namespace else ""
        return f"{before}{self.name}{f'@{self.version}' if self.version else ''}"


def workflow_name(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> WorkflowName | None:
    """A callback for an option or argument like `orders/fulfil_order@1.0.0`."""
    if value is None:
        return None
    found = _WORKFLOW.fullmatch(value)
    if found is None:
        wanted = f"wanted NAMESPACE/NAME[@VERSION], found '{value}'"
        raise click.BadParameter(wanted, ctx, parameter)
    return WorkflowName(found["namespace"], found["name"], found["version"])


def seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A callback for a duration like `90s`, `5m` or plain seconds."""
    if value is None:
        return None
    found = parse_duration(value, plain=Decimal(1))
    if found is None:
        wanted = f"wanted a duration such as 30s or 5m, found '{value}'"
        raise click.BadParameter(wanted, ctx, parameter)
    return float(found)


def moment(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """A callback for a moment in ISO 8601; one without a zone is meant in that of this machine."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        wanted = f"wanted a moment such as 2030-01-31T08:00, found '{value}'"
        raise click.BadParameter(wanted, ctx, parameter) from None
    return found if found.tzinfo is not None else found.astimezone()


def priority(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    """A callback for a priority, a number or a word."""
    if value is None:
        return None
    given = int(value) if re.fullmatch(r"[+-]?\d{1,18}", value) else value
    try:
        priority_number(given)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None
    return given


def the_task(connection: Connection, word: str) -> TaskId:
    """The task with that id or identity."""
    found = tasks.identify(connection, word)
    if not found:
        near = nearest(word, tasks.recent_identities(connection))
        raise NotFoundError(f"no task has the id or the key '{word}'; {near or _LIST_TASKS}")
    if len(found) > 1:
        numbers = ", ".join(str(each) for each in found)
        raise NotFoundError(
            f"several tasks have the key '{word}'; say which one by its id: {numbers}"
        )
    return found[0]


_LIST_TASKS: Final = "`tasker-zmq tasks list` shows the newest"


def the_step(connection: Connection, word: str) -> StepId:
    """The step with that id, or `TASK/NAME`."""
    task_word, slash, name = word.rpartition("/")
    if slash:
        task_id = the_task(connection, task_word)
        step_id = steps.find_by_name(connection, task_id, name)
        if step_id is None:
            known = steps.names(connection, task_id)
            near = nearest(name, known) or f"it has {', '.join(known)}"
            raise NotFoundError(f"task {task_id} has no step '{name}'; {near}")
        return step_id
    if not is_id(word):
        raise NotFoundError(
            f"no step has the id '{word}'; wanted a number, or TASK/STEP such as 12/ship_order"
        )
    return StepId(int(word))


def the_batch(connection: Connection, word: str) -> BatchId:
    """The batch with that id, or the one whose uuid begins so."""
    found = batches.identify(connection, word)
    if not found:
        raise NotFoundError(
            f"no batch has the id '{word}' or a uuid that begins so; "
            "`tasker-zmq batches list` shows the newest"
        )
    if len(found) > 1:
        several = ", ".join(uuid for _, uuid in found[:NEAR_MAX])
        raise NotFoundError(f"more than one batch begins with '{word}': {several}; say more of it")
    return found[0][0]


def the_workflow(connection: Connection, wanted: WorkflowName) -> NamedTaskId:
    """The published workflow of that name; its newest version unless one is named."""
    found = workflows.find(
        connection, namespace=wanted.namespace, name=wanted.name, version=wanted.version
    )
    if not found and wanted.namespace:  # a name may hold a slash of its own
        name = f"{wanted.namespace}/{wanted.name}"
        found = workflows.find(connection, namespace=None, name=name, version=wanted.version)
    if not found:
        known = definitions.names(connection)
        near = nearest(str(wanted), known)
        publish = "publish it with `tasker-zmq workflows publish FILE`"
        raise NotFoundError(f"no workflow '{wanted}' is published; {near or publish}")
    if len(found) > 1:
        names = [workflows.show(connection, each).template.full_name for each in found]
        raise NotFoundError(f"several workflows are named '{wanted}': {', '.join(names)}")
    return found[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x' or 'y'?`, or nothing when nothing is near."""
    by_small = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), by_small, n=NEAR_MAX, cutoff=0.5)
    if not close:
        return ""
    return "did you mean " + " or ".join(f"'{by_small[each]}'" for each in close) + "?"
