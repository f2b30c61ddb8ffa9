"""What a client can do, written once: each operation yields futures and is given their results.

`TaskerClient` waits for them with its thread, `AsyncTaskerClient` on its event loop.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from tasker_zmq.client.link import ANSWER_SECONDS_MAX, Link
from tasker_zmq.client.many import Outcome, Submission
from tasker_zmq.client.options import SubmitManyOptions, SubmitOptions
from tasker_zmq.client.views import Task, TaskSummary
from tasker_zmq.client.waiting import Waiting
from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.errors import RefusedError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import ShortRequest
from tasker_zmq.protocol.commands import NULL, GetTask, HealthCheck, ListTasks
from tasker_zmq.protocol.control import Controlled, ControlTasks
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest

Result = TypeVar("Result")
Request = TypeVar("Request", bound=TaskRequest)
Operation = Generator[Future[Any], Any, Result]


class _Tasks(msgspec.Struct, frozen=True):
    tasks: tuple[TaskSummary, ...]


class Operations:
    """Over one link; any number of them at once, from any thread."""

    def __init__(self, link: Link, *, timeout_seconds: float = ANSWER_SECONDS_MAX) -> None:
        self._link = link
        self._waiting = Waiting(link)
        self._timeout_seconds = timeout_seconds

    def close(self) -> None:
        self._link.close()

    def ask(
        self,
        command_type: str,
        request: object,
        kind: type[Result],
        *,
        timeout_seconds: float | None = None,
        core_id: str | None = None,
        worker: str | None = None,
    ) -> Operation[Result]:
        answer = yield self._link.ask(
            command_type,
            request,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            core_id=core_id,
            worker=worker,
        )
        return codec.decode_data(answer, kind)

    def submit(
        self, workflow: str, context: Mapping[str, Any], options: SubmitOptions
    ) -> Operation[TaskInitialized]:
        request = msgspec.structs.replace(
            _request(TaskRequest, workflow, options),
            context=codec.raw(dict(context)),
            identity=options.get("identity"),
        )
        asked = InitializeTask(task_request=request, workflow=_definition(options))
        worker = options.get("worker")
        return (yield from self.ask("InitializeTask", asked, TaskInitialized, worker=worker))

    def submit_many(
        self,
        workflow: str,
        contexts: Iterable[Mapping[str, Any]],
        options: SubmitManyOptions,
        *,
        identities: Iterable[str] | None,
    ) -> Operation[Outcome]:
        request = _request(ShortRequest, workflow, options)
        requests = (
            msgspec.structs.replace(request, context=codec.raw(dict(context)), identity=identity)
            for context, identity in _identified(contexts, identities)
        )
        return self.many(requests, workflow=_definition(options), worker=options.get("worker"))

    def many(
        self,
        requests: Iterable[ShortRequest],
        *,
        workflow: msgspec.Raw = NULL,
        worker: str | None = None,
    ) -> Operation[Outcome]:
        """All of these tasks, in a few commands; `workflow` is a template for all of them."""
        submission = Submission(
            self._link, timeout_seconds=self._timeout_seconds, workflow=workflow, worker=worker
        )
        return submission.run(requests)

    def get(self, task_id: int) -> Operation[Task]:
        request = GetTask(task_id=TaskId(task_id))
        return (yield from self.ask("GetTask", request, Task))

    def wait(self, task_id: int, timeout_seconds: float | None) -> Operation[Task]:
        yield self._waiting.wait(TaskId(task_id), timeout_seconds=timeout_seconds)
        return (yield from self.get(task_id))

    def tasks(self, request: ListTasks) -> Operation[tuple[TaskSummary, ...]]:
        found = yield from self.ask("ListTasks", request, _Tasks)
        return found.tasks

    def control(self, action: TaskAction, task_id: int, why: str) -> Operation[bool]:
        """Page by page: a task with very many steps is not held for all of them at once."""
        request = ControlTasks(action=action, task_ids=(task_id,), why=why)
        changed = False
        while True:
            page = yield from self.ask("ControlTasks", request, Controlled)
            if page.refused:
                raise RefusedError("; ".join(each.message for each in page.refused))
            changed = changed or bool(page.changed)
            if page.after_id is None:
                return changed
            request = msgspec.structs.replace(request, after_id=page.after_id)

    def health(self) -> Operation[dict[str, Any]]:
        return (yield from self.ask("HealthCheck", HealthCheck(), dict[str, Any]))


def run(operation: Operation[Result]) -> Result:
    """Give the operation what it waits for, with this thread."""
    answer: Any = None
    while True:
        try:
            future: Future[Any] = operation.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        answer = future.result()


def _request(
    kind: type[Request], workflow: str, options: SubmitOptions | SubmitManyOptions
) -> Request:
    """What is the same for every task of one call."""
    namespace, _, rest = workflow.partition("/")
    name, _, version = rest.partition("@")
    if not (namespace and name):
        raise ValueError(f"wanted a workflow as 'namespace/name', found '{workflow}'")
    return kind(
        namespace=namespace,
        name=name,
        version=version or None,
        priority=options.get("priority"),
        tags=options.get("tags", ()),
        reason=options.get("reason"),
        correlation_id=options.get("correlation_id"),
        scheduled_for=_moment(options.get("scheduled_for")),
        execution_mode=_mode(options.get("execution_mode")),
    )


def _definition(options: SubmitOptions | SubmitManyOptions) -> msgspec.Raw:
    definition = options.get("definition")
    return NULL if definition is None else codec.raw(dict(definition))


def _identified(
    contexts: Iterable[Mapping[str, Any]], identities: Iterable[str] | None
) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    if identities is None:
        yield from ((each, None) for each in contexts)
        return
    given = iter(identities)
    for place, context in enumerate(contexts):
        identity = next(given, None)
        if identity is None:
            raise ValueError(f"there is no identity for context [{place}]; wanted one for each")
        yield context, identity


def _moment(at: datetime | None) -> str | None:
    if at is not None and at.tzinfo is None:
        raise ValueError(f"scheduled_for is {at}, which says no zone; wanted: an aware datetime")
    return None if at is None else at.isoformat()


def _mode(word: str | None) -> ExecutionMode | None:
    try:
        return None if word is None else ExecutionMode(word)
    except ValueError:
        known = ", ".join(ExecutionMode)
        raise ValueError(f"execution_mode is '{word}'; wanted one of {known}") from None
