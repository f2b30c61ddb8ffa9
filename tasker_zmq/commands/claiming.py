"""Ready tasks: asked for, claimed, given up, looked for now; what cores else do by themselves."""

from datetime import timedelta
from functools import partial

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Observing, Sitting
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline import discover
from tasker_zmq.pipeline.resting import stay_awake
from tasker_zmq.protocol.claims import (
    LEAVE_SECONDS_MAX,
    TASKS_MAX,
    ClaimReadyTasks,
    DiscoverReadyTasks,
    DiscoveryBegun,
    MutexReleased,
    QueryReadyTasks,
    ReadyTask,
    ReadyTasks,
    ReleaseMutex,
    TasksClaimed,
)
from tasker_zmq.store import claims as store
from tasker_zmq.store import control as control_store
from tasker_zmq.store.notifications import notify
from tasker_zmq.store.reads import ready as reads
from tasker_zmq.store.steps import ReadyStep
from tasker_zmq.store.workers import CORES_CHANNEL

READY_STEPS_MAX = 10_000
WHY_CHARACTERS_MAX = 1_000


def query_ready_tasks(observing: Observing, request: QueryReadyTasks) -> ReadyTasks:
    """From rows: what any core could send now."""
    limit = _limit(request.limit)
    with observing.connect() as connection:
        rows = reads.ready_tasks(connection, at_most=limit + 1, now=observing.now)
    tasks = tuple(ReadyTask(**row) for row in rows[:limit])
    return ReadyTasks(tasks=tasks, more=len(rows) > limit)


def claim_ready_tasks(sitting: Sitting, _asked: Asked, request: ClaimReadyTasks) -> TasksClaimed:
    """Claim now; their viable steps are dispatched in this very tick, as far as there is room."""
    state = sitting.desk.state
    if state.draining:
        raise CommandRefusedError("busy", "this daemon is stopping", hint="ask a core that goes on")
    task_ids = discover.claim(sitting.turn, at_most=_limit(request.limit))
    ready = _viable(sitting, task_ids) if task_ids else []
    sitting.answers.ready += ready
    return TasksClaimed(
        core_id=state.core_id, task_ids=tuple(sorted(task_ids)), ready_steps=len(ready)
    )


def _viable(sitting: Sitting, task_ids: list[TaskId]) -> list[ReadyStep]:
    return control_store.viable_of(
        sitting.connection,
        task_ids,
        core_id=sitting.desk.state.core_id,
        now=sitting.now,
        at_most=READY_STEPS_MAX,
    )


def release_mutex(sitting: Sitting, asked: Asked, request: ReleaseMutex) -> MutexReleased:
    """Give claims up where nothing is in flight; other cores are told with the commit."""
    task_ids = sorted(set(request.task_ids))
    _check_release(request, task_ids)
    core_id = sitting.desk.state.core_id
    release = store.Release(
        core_id=core_id,
        why=request.why,
        by=envelope.initiator(asked),
        until=sitting.now + timedelta(seconds=request.leave_seconds),
    )
    found = store.release(sitting.connection, task_ids, release, now=sitting.now)
    if found.released:
        sitting.turn.contents.drop(found.released)
        notify(sitting.connection, CORES_CHANNEL, core_id)
        sitting.changes.then(partial(stay_awake, sitting.desk.state, release.until))
    known = {*found.released, *found.in_flight}
    return MutexReleased(
        core_id=core_id,
        released=found.released,
        in_flight=found.in_flight,
        not_held=tuple(each for each in task_ids if each not in known),
    )


def _check_release(request: ReleaseMutex, task_ids: list[TaskId]) -> None:
    if not 1 <= len(task_ids) <= TASKS_MAX:
        raise CommandRefusedError(
            "invalid", f"{len(task_ids)} tasks are named; wanted: 1 to {TASKS_MAX}"
        )
    if not request.why.strip() or len(request.why) > WHY_CHARACTERS_MAX:
        raise CommandRefusedError(
            "invalid", f"wanted a reason of 1 to {WHY_CHARACTERS_MAX} characters under why"
        )
    if not 0 <= request.leave_seconds <= LEAVE_SECONDS_MAX:
        raise CommandRefusedError(
            "invalid",
            f"leave_seconds is {request.leave_seconds:g}; wanted: 0 to {LEAVE_SECONDS_MAX:g}",
        )


def discover_ready_tasks(
    sitting: Sitting, _asked: Asked, _request: DiscoverReadyTasks
) -> DiscoveryBegun:
    """Sweep as soon as this tick is over."""
    state, now = sitting.desk.state, sitting.now
    sitting.changes.then(lambda: discover.look_soon(state, now))
    return DiscoveryBegun(core_id=state.core_id, viable_steps=len(state.viable))


def _limit(wanted: int) -> int:
    return max(1, min(wanted, TASKS_MAX))
