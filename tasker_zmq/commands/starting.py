"""ExecuteWorkflow: a task is run now, be it there or made for it."""

from typing import Final

import msgspec

from tasker_zmq.commands import routing
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.executing import refuse_elsewhere
from tasker_zmq.commands.initializing import check, create, origin_of
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.executing import OPEN_HERE, STARTS, Execution, TaskAsked, execution, told
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline import discover
from tasker_zmq.protocol.commands import NULL
from tasker_zmq.protocol.executing import ExecuteWorkflow, WorkflowExecuted
from tasker_zmq.protocol.tasks import TaskRequest
from tasker_zmq.store import control as control_store
from tasker_zmq.store import executing as store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.steps import ReadyStep

READY_STEPS_MAX: Final = 10_000


def execute_workflow(sitting: Sitting, asked: Asked, request: ExecuteWorkflow) -> WorkflowExecuted:
    """Make the task if one is described, and see to it that it runs; says what came of that."""
    if sitting.desk.state.draining:
        raise CommandRefusedError("busy", "this daemon is stopping", hint="ask a core that goes on")
    if (request.task_id is None) is (request.task_request is None):
        raise CommandRefusedError("invalid", "wanted either a task_id or a task_request")
    if request.task_request is not None:
        return _make(sitting, asked, request)
    if request.workflow != NULL or request.execution_mode is ExecutionMode.BACKGROUND:
        what = "a workflow" if request.workflow != NULL else "execution_mode 'background'"
        raise CommandRefusedError("invalid", f"{what} is for a task that is to be made")
    return _run(sitting, asked, request, task_id=TaskId(request.task_id or 0))


def _make(sitting: Sitting, asked: Asked, request: ExecuteWorkflow) -> WorkflowExecuted:
    """The task of InitializeTask; one that is there already is run as if its id were named."""
    preferred = request.worker_preferences
    origin = origin_of(sitting, asked, workflow=request.workflow, preferred=preferred)
    wish = check(sitting, origin, _described(request))
    (made,) = create(sitting, [wish])
    if made.duplicate:
        return _run(sitting, asked, request, task_id=made.task_id)
    ready = _ready(sitting, made.task_id)
    task = _held(sitting, made.task_id)
    return _answer(sitting, task, Execution.CREATED, ready_steps=len(ready))


def _described(request: ExecuteWorkflow) -> TaskRequest:
    """The task request, with the mode that is named beside it."""
    described, mode = request.task_request or TaskRequest(), request.execution_mode
    if mode is None:
        return described
    if described.execution_mode not in {None, mode}:
        raise CommandRefusedError(
            "invalid",
            f"execution_mode is '{mode}', that of the task_request '{described.execution_mode}'",
            hint="name one of them, or the same",
        )
    return msgspec.structs.replace(described, execution_mode=mode)


def _run(
    sitting: Sitting, asked: Asked, request: ExecuteWorkflow, *, task_id: TaskId
) -> WorkflowExecuted:
    state, turn = sitting.desk.state, sitting.turn
    task = _held(sitting, task_id)
    at_once = request.execution_mode is not ExecutionMode.SCHEDULED
    outcome = execution(task, at_once=at_once, core_id=state.core_id, now=turn.now)
    if outcome is Execution.ELSEWHERE:
        refuse_elsewhere(sitting, task.core_id or "", told(task, outcome, {}, now=turn.now))
    if outcome is Execution.ABANDONED:
        turn.changes.then(lambda: discover.look_soon(state, turn.now))
    target = None
    if outcome in OPEN_HERE:
        preferred = request.worker_preferences
        target = routing.target_of(sitting, asked, namespace=task.namespace, preferred=preferred)
    if target is not None:
        routing.pin_existing(sitting, task_id, target)
    if outcome in STARTS:
        store.own(turn.connection, task, core_id=state.core_id, now=turn.now)
        upcoming = step_store.next_retry(turn.connection, core_id=state.core_id)
        turn.changes.then(lambda: state.set_next_retry(upcoming))
    ready = _ready(sitting, task_id) if outcome in {*STARTS, Execution.RUNNING} else []
    if target is None:
        sitting.answers.ready += ready
    else:
        routing.send_next(sitting, ready)
    return _answer(sitting, task, outcome, ready_steps=len(ready))


def _ready(sitting: Sitting, task_id: TaskId) -> list[ReadyStep]:
    return control_store.viable_of(
        sitting.connection,
        [task_id],
        core_id=sitting.desk.state.core_id,
        now=sitting.now,
        at_most=READY_STEPS_MAX,
    )


def _held(sitting: Sitting, task_id: TaskId) -> TaskAsked:
    task = store.hold(sitting.connection, task_id, now=sitting.now)
    if task is None:
        raise CommandRefusedError("not_found", f"no task has the id {task_id}")
    return task


def _answer(
    sitting: Sitting, task: TaskAsked, outcome: Execution, *, ready_steps: int
) -> WorkflowExecuted:
    """`task` is as it was before."""
    steps = store.steps_by_state(sitting.connection, task.task_id)
    started = outcome in STARTS
    waits = task.scheduled_for if outcome in {Execution.SCHEDULED, Execution.CREATED} else None
    return WorkflowExecuted(
        task_id=task.task_id,
        outcome=outcome,
        message=told(task, outcome, steps, now=sitting.now),
        state=task.state,
        core_id=sitting.desk.state.core_id if started else task.core_id,
        ready_steps=ready_steps,
        steps=steps,
        scheduled_for=waits.isoformat() if waits is not None else None,
    )
