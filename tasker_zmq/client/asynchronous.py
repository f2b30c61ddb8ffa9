"""AsyncTaskerClient: what TaskerClient does, for an event loop."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import msgspec

from tasker_zmq.client.client import operations_for
from tasker_zmq.client.link import ANSWER_SECONDS_MAX
from tasker_zmq.client.many import SomeRefusedError
from tasker_zmq.client.operations import Operation
from tasker_zmq.client.options import ListOptions, SubmitManyOptions, SubmitOptions
from tasker_zmq.client.views import Task, TaskSummary
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.protocol.commands import ListTasks
from tasker_zmq.protocol.envelope import RetryPolicy

Result = TypeVar("Result")


class AsyncTaskerClient:
    """As TaskerClient, word for word, with `await`; use it in an `async with`."""

    def __init__(
        self,
        *endpoints: str,
        timeout_seconds: float = ANSWER_SECONDS_MAX,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self._operations = operations_for(
            endpoints, timeout_seconds=timeout_seconds, retry_policy=retry_policy
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.to_thread(self._operations.close)

    async def submit(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> "AsyncSubmittedTask":
        made = await _run(self._operations.submit(workflow, context or {}, options))
        return AsyncSubmittedTask(self, made.task_id, duplicate=made.duplicate)

    async def submit_many(
        self,
        workflow: str,
        contexts: Iterable[Mapping[str, Any]],
        /,
        *,
        identities: Iterable[str] | None = None,
        **options: Unpack[SubmitManyOptions],
    ) -> "list[AsyncSubmittedTask]":
        asked = self._operations.submit_many(workflow, contexts, options, identities=identities)
        found = await _run(asked)
        made = {
            place: AsyncSubmittedTask(self, each.task_id, duplicate=each.duplicate)
            for place, each in sorted(found.made.items())
        }
        if found.refused:
            raise SomeRefusedError(made, found.refused)
        return list(made.values())

    async def get(self, task_id: int) -> Task:
        return await _run(self._operations.get(task_id))

    async def wait(self, task_id: int, *, timeout_seconds: float | None = None) -> Task:
        return await _run(self._operations.wait(task_id, timeout_seconds))

    async def tasks(self, **options: Unpack[ListOptions]) -> tuple[TaskSummary, ...]:
        return await _run(self._operations.tasks(ListTasks(**options)))

    async def cancel(self, task_id: int, *, why: str) -> bool:
        return await _run(self._operations.control(TaskAction.CANCEL, task_id, why))

    async def pause(self, task_id: int, *, why: str) -> bool:
        return await _run(self._operations.control(TaskAction.PAUSE, task_id, why))

    async def resume(self, task_id: int, *, why: str) -> bool:
        return await _run(self._operations.control(TaskAction.RESUME, task_id, why))

    async def health(self) -> dict[str, Any]:
        return await _run(self._operations.health())

    async def ask(
        self,
        command_type: str,
        request: Mapping[str, Any],
        *,
        timeout_seconds: float | None = None,
        core_id: str | None = None,
    ) -> Any:
        asked = self._operations.ask(
            command_type, request, msgspec.Raw, timeout_seconds=timeout_seconds, core_id=core_id
        )
        return msgspec.json.decode(await _run(asked))


@dataclass(frozen=True)
class AsyncSubmittedTask:
    """A task that was made; `duplicate`: it was there already, under the same identity."""

    client: AsyncTaskerClient
    task_id: int
    duplicate: bool = False

    async def wait(self, *, timeout_seconds: float | None = None) -> Task:
        return await self.client.wait(self.task_id, timeout_seconds=timeout_seconds)

    async def get(self) -> Task:
        return await self.client.get(self.task_id)

    async def cancel(self, *, why: str) -> bool:
        return await self.client.cancel(self.task_id, why=why)


async def _run(operation: Operation[Result]) -> Result:
    """Give the operation what it waits for, while the loop goes on."""
    answer: Any = None
    while True:
        try:
            future = operation.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        answer = await asyncio.wrap_future(future)
