"""What a client can do, written once: each operation yields futures and is given their results.

`TaskerClient` waits for them with its thread, `AsyncTaskerClient` on its event loop.
"""

from collections.abc import Generator, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from tasker_zmq.client.link import ANSWER_SECONDS_MAX, Link
from tasker_zmq.client.options import SubmitOptions
from tasker_zmq.client.views import Task, TaskSummary
from tasker_zmq.client.waiting import Waiting
from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.errors import RefusedError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import NULL, GetTask, HealthCheck, ListTasks
from tasker_zmq.protocol.control import Controlled, ControlTasks
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest

Result = TypeVar("Result")
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
        namespace, _, rest = workflow.partition("/")
        name, _, version = rest.partition("@")
        if not (namespace and name):
            raise ValueError(f"wanted a workflow as 'namespace/name', found '{workflow}'")
        request = TaskRequest(
            namespace=namespace,
            name=name,
            version=version or None,
            context=codec.raw(dict(context)),
            identity=options.get("identity"),
            priority=options.get("priority"),
            tags=options.get("tags", ()),
            reason=options.get("reason"),
            correlation_id=options.get("correlation_id"),
            scheduled_for=_moment(options.get("scheduled_for")),
            execution_mode=_mode(options.get("execution_mode")),
        )
        definition = options.get("definition")
        workflow_given = NULL if definition is None else codec.raw(dict(definition))
        asked = InitializeTask(task_request=request, workflow=workflow_given)
        worker = options.get("worker")
        return (yield from self.ask("InitializeTask", asked, TaskInitialized, worker=worker))

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
