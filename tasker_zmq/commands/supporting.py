"""What a worker declares when it registers: checked, and made associations with named tasks."""

from collections.abc import Mapping
from typing import Final

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.domain.ids import NamedTaskId
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.supported import PRIORITY_MAX, Association, Declared
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import RegisterWorker, SupportedTask, TaskCoverage
from tasker_zmq.store import supported as store

TASKS_MAX: Final = 10_000
CONFIGURATION_BYTES_MAX: Final = 16_384


def declared_by(request: RegisterWorker) -> Declared:
    """What the worker said of named tasks; raises CommandRefusedError for what cannot be meant."""
    if len(request.supported_tasks) > TASKS_MAX:
        raise CommandRefusedError(
            "invalid", f"{len(request.supported_tasks)} supported tasks; at most {TASKS_MAX}"
        )
    exclusive = request.exclusive is True
    if exclusive and not request.supported_tasks:
        raise CommandRefusedError(
            "invalid",
            "exclusive, but supported_tasks is empty: such a worker would never get work",
            hint="name the tasks, or leave exclusive out",
        )
    tasks: dict[TaskName, Association] = {}
    for task in request.supported_tasks:
        name = TaskName(task.namespace, task.name, task.version)
        tasks[name] = _association(task, name)
    return Declared(tasks=tasks, exclusive=exclusive)


def _association(task: SupportedTask, name: TaskName) -> Association:
    configuration = codec.encode(task.configuration)
    if len(configuration) > CONFIGURATION_BYTES_MAX:
        raise CommandRefusedError(
            "invalid",
            f"the configuration for {name.full_name[:200]} has {len(configuration)} bytes; at most "
            f"{CONFIGURATION_BYTES_MAX} travel with the work",
        )
    if abs(task.priority) > PRIORITY_MAX:
        raise CommandRefusedError(
            "invalid",
            f"the priority for {name.full_name[:200]} is {task.priority}; wanted: "
            f"-{PRIORITY_MAX} to {PRIORITY_MAX}",
        )
    return Association(priority=task.priority, configuration=configuration)


def coverage_of(
    sitting: Sitting, worker_id: int, known: Mapping[NamedTaskId, TaskName]
) -> tuple[TaskCoverage, ...]:
    """How each of the tasks that a worker knows is covered."""
    if not known:
        return ()
    found = store.coverage(sitting.connection, worker_id, list(known))
    return tuple(
        TaskCoverage(
            namespace=task.namespace,
            name=task.name,
            version=task.version,
            competing_workers=found[key][0],
            your_priority_rank=found[key][1],
        )
        for key, task in known.items()
        if key in found
    )
