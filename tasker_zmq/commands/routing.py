"""What `worker_routing` of the envelope asks for: obeyed by a pin, or refused with the reason.

A pin is what people give with `workers pin --task-id`: it is kept in rows, and every core obeys it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.managing import PINS_MAX, worker_unknown
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.selection import STRATEGIES
from tasker_zmq.domain.waiting import listed
from tasker_zmq.pipeline import advance
from tasker_zmq.protocol.commands import NULL
from tasker_zmq.protocol.envelope import WorkerRouting
from tasker_zmq.store import administration as store
from tasker_zmq.store.administration import Decided, TaskPin
from tasker_zmq.store.steps import ReadyStep

UNSAID: Final = "whoever sent the command"


class Target(NamedTuple):
    """The worker that alone is to run a task, and the command that says so."""

    worker_id: int
    worker_name: str
    asked: Asked


def target_of(
    sitting: Sitting, asked: Asked, *, namespace: str, preferred: WorkerRouting | None = None
) -> Target | None:
    """Who alone is to run a task of this namespace; raises for what this core cannot obey.

    `preferred` are the wishes of a payload, which come before the envelope's.
    """
    wanted = preferred
    if wanted is None:
        if asked.command.worker_routing == NULL:
            return None
        wanted = envelope.routing(asked.command)
    if wanted is None:
        return None
    _check(sitting, wanted, namespace)
    if wanted.target_worker_id is None:
        return None
    found = store.worker_by(sitting.connection, wanted.target_worker_id)
    if found is None:
        raise worker_unknown(sitting, str(wanted.target_worker_id))
    known = store.pins_count(sitting.connection)
    if known >= PINS_MAX:
        raise CommandRefusedError(
            "refused",
            f"there are {known} pins; those of routed tasks go when these are over",
            hint="send it again later, or unpin some",
        )
    return Target(*found, asked)


def _check(sitting: Sitting, wanted: WorkerRouting, namespace: str) -> None:
    others = sorted({each for each in wanted.namespace_requirements if each != namespace})
    if others:
        raise _refused(
            f"namespace_requirements name '{others[0][:80]}': a worker is chosen by handler and "
            f"named task, so for this task only '{namespace}' can be required"
        )
    strategy, own = wanted.selection_strategy, sitting.desk.tuning.strategy
    if strategy is not None and STRATEGIES.get(strategy) is not own:
        name = next((name for name, each in STRATEGIES.items() if each is own), "one of its own")
        raise _refused(
            f"selection_strategy is '{strategy[:80]}', this core chooses by {name}, for all tasks: "
            "dispatch.strategy of its settings"
        )
    preference, scheme = wanted.connection_preference, _scheme(sitting)
    if preference not in {None, scheme}:
        raise _refused(
            f"connection_preference is '{str(preference)[:80]}', this core reaches its workers by "
            f"{scheme}"
        )


def _scheme(sitting: Sitting) -> str:
    return sitting.desk.endpoints.steps.partition("://")[0]


def _refused(message: str) -> CommandRefusedError:
    return CommandRefusedError(
        "unroutable", f"worker_routing: {message}", hint="leave it out, or name target_worker_id"
    )


def pin(sitting: Sitting, targets: Sequence[tuple[TaskId, Target]]) -> None:
    """Give tasks to their workers alone, all in one statement; every core is told."""
    store.pin_tasks(
        sitting.connection,
        [
            TaskPin(
                worker_id=target.worker_id,
                task_id=task_id,
                decided=Decided(
                    by=envelope.initiator(target.asked) or UNSAID,
                    why=f"worker_routing of command {target.asked.command.command_id[:200]}",
                    now=sitting.now,
                ),
            )
            for task_id, target in targets
        ],
    )
    sitting.turn.managed.update(target.worker_name for _, target in targets)


def pin_existing(sitting: Sitting, task_id: TaskId, target: Target) -> None:
    """Give a task that is there to one worker; raises when people gave it to others."""
    pins = store.load(sitting.connection).pins
    names = {each.worker_name for each in pins if each.task_id == task_id}
    if names - {target.worker_name}:
        others = listed(sorted(names - {target.worker_name}))
        raise _refused(f"task {task_id} is pinned to {others}")
    if not names:
        pin(sitting, [(task_id, target)])


def send_next(sitting: Sitting, ready: Sequence[ReadyStep]) -> None:
    """Offer steps in the next tick, which comes at once: this one does not know the pins yet."""
    if ready:
        entries = advance.entries(sitting.turn, ready)
        sitting.changes.then(partial(sitting.desk.state.viable.add, entries))
