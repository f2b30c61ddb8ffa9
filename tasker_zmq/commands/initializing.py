"""Requests for tasks: contexts checked against their schemas, tasks created by the set."""

import difflib
import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import msgspec
import orjson

from tasker_zmq.commands import envelope, inline, routing
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.estimating import durations
from tasker_zmq.commands.fitting import check_fit
from tasker_zmq.commands.moments import moment
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.commands.routing import Target
from tasker_zmq.domain.beginning import Beginning, ExecutionMode, beginning
from tasker_zmq.domain.ids import NamedTaskId, TaskId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.pipeline import foresight
from tasker_zmq.pipeline.scheduled import look_no_later
from tasker_zmq.pipeline.state import Named
from tasker_zmq.protocol.commands import NULL
from tasker_zmq.protocol.envelope import WorkerRouting
from tasker_zmq.protocol.tasks import (
    GraphEdge,
    TaskInitialized,
    TaskRequest,
    WorkflowGraph,
)
from tasker_zmq.store import definitions as definition_store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.definitions import Definition, Identified
from tasker_zmq.store.steps import NewTask, ReadyStep

SCHEDULE_MAX = timedelta(days=36_525)
CANDIDATES_MAX = 20
IDENTITY_LENGTH_MAX = 500  # an index entry holds no more than 2,704 bytes
NO_TAGS = "[]"

Urged = tuple[ExecutionMode | None, int | str | None]  # and its priority


class Wish(NamedTuple):
    """A task that may be made; `identity` tells whether it was made before."""

    asked: Asked
    definition: Definition
    identity: str
    task: NewTask
    target: Target | None  # the worker that alone is to run it
    identity_given: bool = False  # by who asks; else it is that of the command


class Made(NamedTuple):
    """What became of a wish; `duplicate`: the task was there already."""

    wish: Wish
    task_id: TaskId
    duplicate: bool


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A command that asks for tasks, and what is the same for all of them: found once."""

    asked: Asked
    workflow: msgspec.Raw
    initiator: str | None
    priority: int
    preferred: WorkerRouting | None
    task_ids: Iterator[int]  # one for each request
    targets: dict[str, Target | None] = field(default_factory=dict)  # by namespace
    definitions: dict[Named, Definition | CommandRefusedError] = field(default_factory=dict)
    beginnings: dict[Urged, Beginning] = field(default_factory=dict)  # of those for any time

    def target(self, sitting: Sitting, namespace: str) -> Target | None:
        """The worker that alone is to run its tasks, if it names one."""
        if namespace not in self.targets:
            self.targets[namespace] = routing.target_of(
                sitting, self.asked, namespace=namespace, preferred=self.preferred
            )
        return self.targets[namespace]

    def definition(self, sitting: Sitting, request: TaskRequest) -> Definition:
        """What a request names, or the workflow that came along; raises CommandRefusedError."""
        key = (request.namespace, request.name, request.version)
        found = self.definitions.get(key)
        if found is None:
            try:
                found = (
                    find(sitting, request)
                    if self.workflow == NULL
                    else inline.define(sitting, self.workflow, request)
                )
            except CommandRefusedError as error:
                found = error
            self.definitions[key] = found
        if isinstance(found, CommandRefusedError):
            raise found.with_traceback(None)
        return found

    def beginning(self, sitting: Sitting, request: TaskRequest) -> Beginning:
        """When its task may begin, and where it stands in line; raises CommandRefusedError."""
        if request.scheduled_for is not None:
            return _beginning(sitting, request, default=self.priority)
        key = (request.execution_mode, request.priority)
        found = self.beginnings.get(key)
        if found is None:
            found = self.beginnings[key] = _beginning(sitting, request, default=self.priority)
        return found


def origin_of(
    sitting: Sitting,
    asked: Asked,
    *,
    workflow: msgspec.Raw,
    tasks: int = 1,
    preferred: WorkerRouting | None = None,
) -> Origin:
    """A command of which so many tasks may be made; raises CommandRefusedError."""
    state = sitting.desk.state
    if state.draining:
        raise CommandRefusedError(
            "busy", "this daemon is stopping", hint="ask again once a daemon is up"
        )
    return Origin(
        asked=asked,
        workflow=workflow,
        initiator=envelope.initiator(asked),
        priority=envelope.given_priority(asked.command) or 0,
        preferred=preferred,
        task_ids=iter(state.take_ids(sitting.connection, "tasker_tasks", "task_id", count=tasks)),
    )


def check(
    sitting: Sitting, origin: Origin, request: TaskRequest, *, number: int | None = None
) -> Wish:
    """A request as a task that may be made; raises CommandRefusedError.

    `number` is which of several requests of the command it is, if there are several.
    """
    definition = origin.definition(sitting, request)
    context = bytes(request.context)
    _check_context(context, definition)
    identity = _identity(origin.asked, request, number)
    begins = origin.beginning(sitting, request)
    task = NewTask(
        task_id=TaskId(next(origin.task_ids)),
        named_task_id=definition.named_task_id,
        step_count=len(definition.steps),
        context=context.decode(),
        identity=identity,
        priority=begins.priority,
        tags=orjson.dumps(request.tags).decode() if request.tags else NO_TAGS,
        initiator=request.initiator or origin.initiator,
        source_system=request.source_system,
        reason=request.reason,
        correlation_id=request.correlation_id or origin.asked.command.correlation_id,
        scheduled_for=begins.scheduled_for,
    )
    target = origin.target(sitting, definition.namespace)
    given = request.identity is not None
    return Wish(origin.asked, definition, identity, task, target, identity_given=given)


def _identity(asked: Asked, request: TaskRequest, number: int | None) -> str:
    """A command that is sent twice makes its tasks once, also when its sender gave no identity."""
    place = "" if number is None else f"#{number}"
    identity = request.identity or f"command:{asked.command.command_id}{place}"
    if len(identity) > IDENTITY_LENGTH_MAX:
        raise CommandRefusedError(
            "invalid",
            f"the identity (or, without one, the command_id) has {len(identity)} characters; at "
            f"most {IDENTITY_LENGTH_MAX} make one",
        )
    return identity


def _beginning(sitting: Sitting, request: TaskRequest, *, default: int) -> Beginning:
    """When it may begin and where it stands in line; its own priority before the envelope's."""
    priority = envelope.number_of(request.priority)
    if priority is None:
        priority = default
    at = request.scheduled_for
    scheduled_for = None if at is None else moment(at, name="scheduled_for")
    if scheduled_for is not None and abs(scheduled_for - sitting.now) > SCHEDULE_MAX:
        raise CommandRefusedError(
            "invalid", f"scheduled_for is {at}; wanted: a moment of this century"
        )
    try:
        return beginning(request.execution_mode, scheduled_for=scheduled_for, priority=priority)
    except ValueError as error:
        raise CommandRefusedError("invalid", str(error)) from None


def find(sitting: Sitting, request: TaskRequest) -> Definition:
    """The definition that a request names; the newest version when it names none."""
    namespace, name = request.namespace, request.name
    if not namespace or not name:
        raise CommandRefusedError(
            "invalid",
            f"the task_request names no {'name' if namespace else 'namespace'}",
            hint="give task_request.namespace (or metadata.namespace) and task_request.name",
        )
    key = (namespace, name, request.version or "")
    if key in sitting.found:
        return sitting.found[key]
    identified = _identified(sitting, namespace=namespace, name=name, version=request.version)
    if identified is None:
        raise _unknown(sitting, request)
    state, (named_task_id, digest) = sitting.desk.state, identified
    known = state.definition(sitting.connection, named_task_id, digest=digest)
    sitting.found[key] = known
    return known


def _identified(
    sitting: Sitting, *, namespace: str, name: str, version: str | None
) -> Identified | None:
    """Which definition is meant: from memory, which PostgreSQL then compares with its rows."""
    state, connection = sitting.desk.state, sitting.connection
    key = (namespace, name, version)
    known = None if state.wary else state.identified.get(key)
    if known is not None:
        definition_store.expect(connection, known, namespace=namespace, name=name, version=version)
        return known
    found = definition_store.identify(connection, namespace=namespace, name=name, version=version)
    if found is not None:
        sitting.changes.then(partial(operator.setitem, state.identified, key, found))
    return found


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


def create(sitting: Sitting, wishes: Sequence[Wish]) -> list[Made]:
    """Create what was not there, in one statement; what became of each wish, in order."""
    tasks = [each.task for each in wishes]
    state = sitting.desk.state
    step_ids = state.take_step_ids(sitting.connection, tasks)
    # Nobody waits where a task can be there already only if its command was sent twice.
    certain = not state.wary and not any(each.identity_given for each in wishes)
    created = step_store.create(
        sitting.connection,
        tasks,
        step_ids,
        core_id=state.core_id,
        now=sitting.now,
        certain=certain,
    )
    ready = [
        step
        for each in wishes
        if each.task.task_id in created
        for step in _begin(sitting, each, created[each.task.task_id])
    ]
    sitting.answers.ready += _routed(sitting, wishes, ready, among=created)
    missing = [each for each in wishes if each.task.task_id not in created]
    existing = (
        step_store.find_by_identity(
            sitting.connection,
            [(each.definition.named_task_id, each.identity) for each in missing],
        )
        if missing
        else {}
    )
    return [
        Made(each, each.task.task_id, duplicate=False)
        if each.task.task_id in created
        else Made(each, existing[each.definition.named_task_id, each.identity], duplicate=True)
        for each in wishes
    ]


def _routed(
    sitting: Sitting,
    wishes: Sequence[Wish],
    ready: Sequence[ReadyStep],
    *,
    among: Collection[TaskId],
) -> Sequence[ReadyStep]:
    """Pin the tasks that one worker alone is to run; the steps that this tick may send."""
    targets = [
        (each.task.task_id, each.target)
        for each in wishes
        if each.target is not None and each.task.task_id in among
    ]
    if not targets:
        return ready
    routing.pin(sitting, targets)
    pinned = {task_id for task_id, _ in targets}
    routing.send_next(sitting, [each for each in ready if each.task_id in pinned])
    return [each for each in ready if each.task_id not in pinned]


def _begin(sitting: Sitting, wish: Wish, step_ids: Sequence[int]) -> list[ReadyStep]:
    """Remember the task; its first steps, if its time has come."""
    task, now = wish.task, sitting.now
    if task.scheduled_for is not None and task.scheduled_for > now:
        look = partial(look_no_later, sitting.desk.state, task.scheduled_for)
        sitting.changes.then(look)
        return []
    course = foresight.begin(task, wish.definition, step_ids, now=now)
    sitting.turn.contents.begin(task.task_id, task.context, course)
    return course.beginnings()


class Describing:
    """The answers of one tick: what is the same for all tasks of a definition is found once."""

    def __init__(self, sitting: Sitting) -> None:
        self._sitting = sitting
        self._durations: dict[NamedTaskId, int] | None = None
        self._graphs: dict[NamedTaskId, WorkflowGraph] = {}
        self._candidates: dict[NamedTaskId, tuple[str, ...]] = {}

    def describe(self, made: Made) -> TaskInitialized:
        definition, task = made.wish.definition, made.wish.task
        key = definition.named_task_id
        if self._durations is None:
            self._durations = durations(self._sitting.desk.estimates, self._sitting.turn)
        if key not in self._graphs:
            self._graphs[key] = graph(definition)
            self._candidates[key] = self._able(definition)
        at = task.scheduled_for
        return TaskInitialized(
            task_id=made.task_id,
            duplicate=made.duplicate,
            named_task=definition.full_name,
            step_count=len(definition.steps),
            workflow_graph=self._graphs[key],
            candidate_workers=_among(self._candidates[key], made)[:CANDIDATES_MAX],
            estimated_duration_ms=self._durations.get(key),
            scheduled_for=None if at is None else at.isoformat(),
        )

    def _able(self, definition: Definition) -> tuple[str, ...]:
        """Names of connected workers that can run a step of it."""
        task = TaskName(definition.namespace, definition.name, definition.version)
        kinds = {Kind(step.handler_class, step.named_task_id) for step in definition.steps}
        sessions = self._sitting.desk.state.sessions
        able = [sessions.able(kind, task) for kind in kinds]
        names = {each.worker_name for kind in able for each in kind.sessions if not each.deaf}
        return tuple(sorted(names))


def _among(candidates: tuple[str, ...], made: Made) -> tuple[str, ...]:
    """Of these the one that alone may run it, if somebody said so."""
    target = None if made.duplicate else made.wish.target
    return (
        candidates
        if target is None
        else tuple(each for each in candidates if each == target.worker_name)
    )


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
