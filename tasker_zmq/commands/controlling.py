"""ControlSteps and ControlTasks: what people decide about steps and tasks, a page at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.deed import Deed, begin, check_ids, following
from tasker_zmq.commands.replies import Asked
from tasker_zmq.domain import control as rules
from tasker_zmq.domain.control import StepAction, TaskAction
from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId, TaskId
from tasker_zmq.domain.states import OPEN_TASK_STATES, StepState, TaskState
from tasker_zmq.pipeline import delivery
from tasker_zmq.protocol.commands import CancelSteps, InHand
from tasker_zmq.protocol.control import CONTROLLED_MAX, Controlled, ControlSteps, ControlTasks
from tasker_zmq.store import control as store
from tasker_zmq.store.statements import Row

_ALREADY: Final = {
    StepAction.RESOLVE: StepState.RESOLVED_MANUALLY,
    StepAction.CANCEL: StepState.CANCELLED,
}


def control_steps(sitting: Sitting, asked: Asked, request: ControlSteps) -> Controlled:
    """Retry, resolve or cancel one page of the named steps."""
    deed = begin(sitting, asked, request)
    named = [each for each in check_ids(request.step_ids, "steps") if each > request.after_id]
    page = named[: sitting.allowance.take(len(named))]
    facts = deed.load_steps(page)
    for missing in sorted(set(page) - facts.keys()):
        deed.refuse(missing, f"no step has the id {missing}", code="not_found")
    moved: list[StepId] = []
    for step_id, (step, repeated) in facts.items():
        refused = rules.refuse_step(request.action, step)
        if repeated or step.state is _ALREADY.get(request.action):
            deed.already.append(step_id)
        elif refused is not None:
            deed.refuse(step_id, refused)
        else:
            moved.append(StepId(step_id))
    deed.move(request.action, moved, results=request.results)
    deed.changed += moved
    deed.note(f"{request.action} steps")
    return deed.answer(after_id=following(named, page, request.after_id))


def control_tasks(sitting: Sitting, asked: Asked, request: ControlTasks) -> Controlled:
    """Cancel, pause, resume or retry the named tasks; of their steps one page."""
    deed = begin(sitting, asked, request)
    task_ids = check_ids(request.task_ids, "tasks")
    loaded = store.load_tasks(
        sitting.connection, task_ids, core_id=sitting.desk.state.core_id, now=sitting.now
    )
    for missing in sorted(set(task_ids) - {row.task_id for row in loaded}):
        deed.refuse(missing, f"no task has the id {missing}", code="not_found")
    after_id = _DEEDS[request.action](deed, request, loaded)
    deed.note(f"{request.action} tasks")
    return deed.answer(after_id=after_id)


def _sort_out(deed: Deed, action: TaskAction, loaded: Iterable[Row]) -> list[TaskId]:
    """The tasks that allow the action; the others are refused, or were so already."""
    allowed: list[TaskId] = []
    for row in loaded:
        state = TaskState(row.state)
        refused = rules.refuse_task(action, row.task_id, state, elsewhere=row.elsewhere)
        if _is_so(action, state, paused=row.paused):
            deed.already.append(row.task_id)
        elif refused is not None:
            deed.refuse(row.task_id, refused)
        else:
            allowed.append(TaskId(row.task_id))
    return allowed


def _is_so(action: TaskAction, state: TaskState, *, paused: bool) -> bool:
    if action is TaskAction.CANCEL:
        return state is TaskState.CANCELLED
    wanted = {TaskAction.PAUSE: True, TaskAction.RESUME: False}.get(action)
    return wanted is not None and paused is wanted and state in OPEN_TASK_STATES


def _cancel(deed: Deed, request: ControlTasks, loaded: Sequence[Row]) -> int | None:
    """End the tasks at once, their steps a page at a time; tell workers who run some of them."""
    cancelled = _sort_out(deed, request.action, loaded)
    if cancelled:
        store.cancel_tasks(
            deed.sitting.connection,
            cancelled,
            from_states=rules.CANCELLABLE_TASK_STATES,
            metadata=deed.metadata,
            now=deed.sitting.now,
        )
        deed.sitting.turn.contents.drop(cancelled)
        deed.changed += cancelled
    # A command that did not come to its end may be given again: what it left is done then.
    ended = [*cancelled, *(TaskId(task_id) for task_id in deed.already)]
    page, after_id = _page(deed, request, ended, states=rules.states_before(StepAction.CANCEL))
    deed.move(StepAction.CANCEL, page)
    if request.after_id == 0:
        _tell_workers(deed, ended)
    return after_id


def _page(
    deed: Deed,
    request: ControlTasks,
    task_ids: Sequence[TaskId],
    *,
    states: Sequence[StepState],
) -> tuple[list[StepId], int | None]:
    """One page of the tasks' steps in these states, and where the next one begins."""
    if not task_ids:
        return [], None
    room = deed.sitting.allowance.take(CONTROLLED_MAX)
    if not room:
        return [], request.after_id
    found = store.steps_of(
        deed.sitting.connection, task_ids, states=states, after=request.after_id, at_most=room
    )
    deed.sitting.allowance.give_back(room - len(found))
    step_ids = [StepId(row.step_id) for row in found]
    return step_ids, step_ids[-1] if len(step_ids) == room else None


def _tell_workers(deed: Deed, task_ids: Sequence[TaskId]) -> None:
    """One CancelSteps per session that has steps of these tasks in hand and can be reached."""
    if not task_ids:
        return
    running = store.steps_of(
        deed.sitting.connection,
        task_ids,
        states=(StepState.IN_PROGRESS,),
        after=0,
        at_most=CONTROLLED_MAX,
    )
    in_hand: dict[SessionId, dict[BatchUuid, list[StepId]]] = {}
    for row in running:
        batches = in_hand.setdefault(SessionId(row.session_id), {})
        batches.setdefault(BatchUuid(row.batch_uuid), []).append(StepId(row.step_id))
    for session_id, batches in in_hand.items():
        session = deed.sitting.desk.state.sessions.get(session_id)
        if session is not None and session.route:
            told = _cancel_steps(session_id, batches, deed)
            letter = delivery.tell(session, told, f"{session_id}-{deed.command_id}")
            deed.sitting.answers.letters.append(letter)


def _cancel_steps(
    session_id: SessionId, batches: Mapping[BatchUuid, Sequence[StepId]], deed: Deed
) -> CancelSteps:
    return CancelSteps(
        session_id=session_id,
        steps=tuple(
            InHand(batch_id=batch_uuid, step_ids=tuple(step_ids))
            for batch_uuid, step_ids in batches.items()
        ),
        reason=deed.why,
    )


def _pause(deed: Deed, request: ControlTasks, loaded: Sequence[Row]) -> int | None:
    paused = _sort_out(deed, request.action, loaded)
    if not paused:
        return None
    sitting, state = deed.sitting, deed.sitting.desk.state
    waiting = store.viable_of(
        sitting.connection, paused, core_id=state.core_id, now=sitting.now, at_most=CONTROLLED_MAX
    )
    store.pause_tasks(
        sitting.connection, paused, paused=True, core_id=state.core_id, now=sitting.now
    )
    sitting.turn.contents.drop(paused)  # so that dispatch asks the rows, which know of the pause
    sitting.changes.then(partial(state.viable.discard, [step.step_id for step in waiting]))
    deed.changed += paused
    return None


def _resume(deed: Deed, request: ControlTasks, loaded: Sequence[Row]) -> int | None:
    resumed = _sort_out(deed, request.action, loaded)
    if resumed:
        sitting = deed.sitting
        core_id = sitting.desk.state.core_id
        store.pause_tasks(
            sitting.connection, resumed, paused=False, core_id=core_id, now=sitting.now
        )
        deed.send_what_is_ready(resumed, taken=True)
        deed.changed += resumed
    return None


def _retry(deed: Deed, request: ControlTasks, loaded: Sequence[Row]) -> int | None:
    """Retry the failed steps of the tasks; one in doubt is decided by itself."""
    standing = {TaskId(row.task_id): row for row in loaded}
    allowed = _sort_out(deed, request.action, loaded)
    retried = [task_id for task_id in allowed if standing[task_id].failed]
    for task_id in allowed:
        if not standing[task_id].failed:
            deed.refuse(task_id, _nothing_failed(standing[task_id]))
    page, after_id = _page(deed, request, retried, states=(StepState.ERROR,))
    deed.move(StepAction.RETRY, page)
    deed.changed += retried
    return after_id


def _nothing_failed(row: Row) -> str:
    found = f"task {row.task_id} is {row.state}, and none of its steps stands in error"
    if row.in_doubt:
        steps = "one is in doubt" if row.in_doubt == 1 else f"{row.in_doubt} are in doubt"
        return f"{found}; {steps}: decide with `tasker-zmq steps` or `tasker-zmq dlq`"
    return f"{found}; {row.cancelled} were cancelled" if row.cancelled else found


_DEEDS: Final[Mapping[TaskAction, Callable[[Deed, ControlTasks, Sequence[Row]], int | None]]] = {
    TaskAction.CANCEL: _cancel,
    TaskAction.PAUSE: _pause,
    TaskAction.RESUME: _resume,
    TaskAction.RETRY: _retry,
}
