"""The sweep: finding, page by page, steps that may be sent and that memory does not have."""

from dataclasses import dataclass

from sqlalchemy import Connection

from tasker_zmq.domain.ids import CoreId, NamedStepId, NamedTaskId
from tasker_zmq.store.statements import rows
from tasker_zmq.store.steps import ReadyStep, ready_step


@dataclass(frozen=True, kw_only=True)
class SweepPage:
    """One page of open tasks: `cursor` is None behind the last one; `cut`: a task has more."""

    ready: tuple[ReadyStep, ...]
    cursor: tuple[int, int] | None
    cut: bool


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Steps to pass over: of these definitions, unless more urgent than `priority`."""

    definitions: frozenset[tuple[NamedTaskId, NamedStepId]]
    priority: int


SWEEP_START = (-(1 << 31), 0)


def sweep(
    connection: Connection,
    *,
    core_id: CoreId,
    after: tuple[int, int],
    tasks_max: int,
    steps_max: int,
    crowd: Crowd | None = None,
) -> SweepPage:
    """Viable steps of one page of this core's open tasks; with a crowd it always counts as cut."""
    crowded = sorted(crowd.definitions) if crowd else []
    returned = rows(
        connection,
        "sweep_viable_steps",
        {
            "core_id": core_id,
            "after_priority": after[0],
            "after_task_id": after[1],
            "at_most": tasks_max,
            "steps_max": steps_max,
            "crowded_tasks": [task_id for task_id, _ in crowded],
            "crowded_steps": [step_id for _, step_id in crowded],
            "crowded_priority": crowd.priority if crowd else 0,
        },
    )
    tasks = {row.task_id for row in returned}
    cut = len(returned) == steps_max
    last = returned[-1] if cut or len(tasks) == tasks_max else None
    return SweepPage(
        ready=tuple(ready_step(row) for row in returned if row.step_id is not None),
        cursor=None if last is None else (-last.priority, last.task_id),
        cut=cut or crowd is not None,
    )
