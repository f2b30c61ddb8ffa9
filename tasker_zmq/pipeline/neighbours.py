"""What cores tell each other: steps of another one's tasks that became ready, or will in a while.

Any core records any result, but the owner of a task sends its steps. It is told which tasks to look
at; should it not hear, its slow sweep finds them.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.pipeline.inbox import Received, StepsReady
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.store import control as control_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.notifications import notify
from tasker_zmq.store.steps import Moved, ReadyStep

CHANNEL: Final = "tasker_ready"  # the payload: a core, a space, ids of its tasks with commas
TASKS_PER_WORD: Final = 300  # ids have at most 19 digits, a payload 7,999 bytes
STEPS_MAX: Final = 10_000


def tell(turn: Turn, moved: Iterable[Moved]) -> None:
    """Tell the owners, with the commit, where steps of theirs are or will be ready."""
    owned: dict[CoreId, set[TaskId]] = {}
    for each in moved:
        for core_id, task_id in each.elsewhere:
            owned.setdefault(core_id, set()).add(task_id)
    for core_id, task_ids in owned.items():
        ordered = sorted(task_ids)
        for start in range(0, len(ordered), TASKS_PER_WORD):
            named = ",".join(map(str, ordered[start : start + TASKS_PER_WORD]))
            notify(turn.connection, CHANNEL, f"{core_id} {named}")


def understand(payload: str, core_id: CoreId) -> StepsReady | None:
    """What a word on the channel says to this core; None if it is for another, or nonsense."""
    owner, _, named = payload.rpartition(" ")
    try:
        task_ids = tuple(TaskId(int(each)) for each in named.split(","))
    except ValueError:
        return None
    return StepsReady(task_ids) if owner == core_id else None


def ready(turn: Turn, inbox: Sequence[Received]) -> list[ReadyStep]:
    """The steps that others told of and that may be sent now; when the next one may is noted."""
    named = {task_id for each in inbox if isinstance(each, StepsReady) for task_id in each.task_ids}
    if not named:
        return []
    upcoming = step_store.next_retry(turn.connection, core_id=turn.state.core_id)
    turn.changes.then(lambda: turn.state.set_next_retry(upcoming))
    return control_store.viable_of(
        turn.connection,
        sorted(named),
        core_id=turn.state.core_id,
        now=turn.now,
        at_most=STEPS_MAX,
    )
