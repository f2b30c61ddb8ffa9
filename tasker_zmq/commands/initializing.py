"""InitializeTask: contexts checked against their schemas, tasks created by the set."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.fitting import check_fit
from tasker_zmq.commands.replies import Asked, CommandRefusedError, refusal, success
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.tasks import (
    GraphEdge,
    InitializeTask,
    TaskInitialized,
    TaskRequest,
    WorkflowGraph,
)
from tasker_zmq.store import definitions as definition_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.definitions import Definition
from tasker_zmq.store.steps import NewTask

REPLY = "TaskInitialized"
IDENTITY_LENGTH_MAX = 500  # an index entry holds no more than 2,704 bytes


@dataclass(frozen=True)
class _Wanted:
    asked: Asked
    definition: Definition
    identity: str
    task: NewTask


def initialize_tasks(sitting: Sitting, asked: Sequence[Asked]) -> None:
    """Create the tasks of all the commands in one statement; each gets an answer of its own."""
    wanted: list[_Wanted] = []
    for each in asked:
        try:
            _check_open(sitting)
            envelope.refuse_overdue(each, sitting.now)
            request = envelope.payload_of(each, InitializeTask).task_request
            wanted.append(_check(sitting, each, request))
        except CommandRefusedError as error:
            _refuse(sitting, each, error)
    if wanted:
        _create(sitting, wanted)


def _check_open(sitting: Sitting) -> None:
    if sitting.desk.state.draining:
        raise CommandRefusedError(
            "busy", "this daemon is stopping", hint="ask again once a daemon is up"
        )


def _refuse(sitting: Sitting, asked: Asked, error: CommandRefusedError) -> None:
    sitting.answers.letters.append(refusal(asked, error, by=sitting.answerer))


def _check(sitting: Sitting, asked: Asked, request: TaskRequest) -> _Wanted:
    definition = find(sitting, request)
    context = bytes(request.context)
    _check_context(context, definition)
    # A command that is sent twice is one task, also when its sender gave no identity.
    identity = request.identity or f"command:{asked.command.command_id}"
    if len(identity) > IDENTITY_LENGTH_MAX:
        raise CommandRefusedError(
            "invalid",
            f"the identity (or, without one, the command_id) has {len(identity)} characters; at "
            f"most {IDENTITY_LENGTH_MAX} make one",
        )
    priority = envelope.number_of(request.priority)
    if priority is None:
        priority = envelope.given_priority(asked.command) or 0
    task_id = sitting.desk.state.take_ids(sitting.connection, "tasker_tasks", "task_id", count=1)[0]
    task = NewTask(
        task_id=TaskId(task_id),
        named_task_id=definition.named_task_id,
        step_count=len(definition.steps),
        context=context.decode(),
        identity=identity,
        priority=priority,
        tags=orjson.dumps(request.tags).decode(),
        initiator=request.initiator or envelope.initiator(asked),
        source_system=request.source_system,
        reason=request.reason,
        correlation_id=request.correlation_id or asked.command.correlation_id,
    )
    return _Wanted(asked, definition, identity, task)


def find(sitting: Sitting, request: TaskRequest) -> Definition:
    """The definition that a request names; the newest version when it names none."""
    if not request.namespace:
        raise CommandRefusedError(
            "invalid",
            "the task_request names no namespace",
            hint="give task_request.namespace, or metadata.namespace",
        )
    key = (request.namespace, request.name, request.version or "")
    if key in sitting.found:
        return sitting.found[key]
    identified = definition_store.identify(
        sitting.connection, namespace=request.namespace, name=request.name, version=request.version
    )
    if identified is None:
        raise _unknown(sitting, request)
    state, (named_task_id, digest) = sitting.desk.state, identified
    known = state.definition(sitting.connection, named_task_id, digest=digest)
    sitting.found[key] = known
    return known


def _unknown(sitting: Sitting, request: TaskRequest) -> CommandRefusedError:
    version = f"@{request.version}" if request.version else ""
    wanted = f"{request.namespace}/{request.name}{version}"
    names = definition_store.names(sitting.connection)
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "publish it: tasker-zmq workflows publish FILE"
    return CommandRefusedError("not_found", f"no workflow '{wanted}' is published", hint=hint)


def _check_context(context: bytes, definition: Definition) -> None:
    try:
        value = orjson.loads(context)
    except orjson.JSONDecodeError as error:
        raise CommandRefusedError("invalid", f"the context is not JSON: {error}") from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise CommandRefusedError("invalid", f"the context must be a JSON object, not {kind}")
    check_fit(value, definition)


def _create(sitting: Sitting, wanted: Sequence[_Wanted]) -> None:
    tasks = [each.task for each in wanted]
    state = sitting.desk.state
    step_ids = state.take_step_ids(sitting.connection, tasks)
    created = step_store.create(
        sitting.connection, tasks, step_ids, core_id=state.core_id, now=sitting.now
    )
    sitting.answers.ready += created.ready
    for each in wanted:
        if each.task.task_id in created.task_ids:
            sitting.turn.contents.begin(each.task.task_id, each.task.context)
    missing = [each for each in wanted if each.task.task_id not in created.task_ids]
    existing = (
        step_store.find_by_identity(
            sitting.connection,
            [(each.definition.named_task_id, each.identity) for each in missing],
        )
        if missing
        else {}
    )
    for each in wanted:
        is_new = each.task.task_id in created.task_ids
        task_id = (
            each.task.task_id if is_new else existing[each.definition.named_task_id, each.identity]
        )
        reply = TaskInitialized(
            task_id=task_id,
            duplicate=not is_new,
            named_task=each.definition.full_name,
            step_count=len(each.definition.steps),
            workflow_graph=graph(each.definition),
        )
        sitting.answers.letters.append(success(each.asked, REPLY, reply, by=sitting.answerer))


def graph(definition: Definition) -> WorkflowGraph:
    """Who waits for whom."""
    return WorkflowGraph(
        steps=tuple(step.name for step in definition.steps),
        edges=tuple(
            GraphEdge(from_step=parent, to_step=step.name)
            for step in definition.steps
            for parent in step.depends_on
        ),
    )
