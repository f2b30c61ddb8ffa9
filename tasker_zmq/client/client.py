"""TaskerClient: submit, wait, look, cancel, from any number of threads over one connection."""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, Unpack

import msgspec

from tasker_zmq.client.link import ANSWER_SECONDS_MAX, Link
from tasker_zmq.client.many import SomeRefusedError
from tasker_zmq.client.operations import Operations, run
from tasker_zmq.client.options import ListOptions, SubmitManyOptions, SubmitOptions
from tasker_zmq.client.views import Task, TaskSummary
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.protocol.commands import ListTasks, Peer
from tasker_zmq.protocol.envelope import RetryPolicy

ENDPOINT_VARIABLE: Final = "TASKER_COMMANDS"
DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5557"


def operations_for(
    endpoints: tuple[str, ...], *, timeout_seconds: float, retry_policy: RetryPolicy | None
) -> Operations:
    """Over a new link to these endpoints, else to those of the environment, else the usual one."""
    named = endpoints or tuple(os.environ.get(ENDPOINT_VARIABLE, DEFAULT_ENDPOINT).split(","))
    source = Peer(type="client", id=f"{socket.gethostname()}:{os.getpid()}")
    link = Link(*(each.strip() for each in named), source=source, retry_policy=retry_policy)
    return Operations(link, timeout_seconds=timeout_seconds)


class TaskerClient:
    """A connection to one daemon, or to several that share a database.

    Without `endpoints`, TASKER_COMMANDS names them, with commas between. Whoever cannot reach a
    daemon, or hears nothing for `timeout_seconds`, gets UnreachableError; commands are sent again
    meanwhile, as `retry_policy` says, and never carried out twice.
    """

    def __init__(
        self,
        *endpoints: str,
        timeout_seconds: float = ANSWER_SECONDS_MAX,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self._operations = operations_for(
            endpoints, timeout_seconds=timeout_seconds, retry_policy=retry_policy
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; whoever still waits gets UnreachableError."""
        self._operations.close()

    def submit(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> "SubmittedTask":
        """Have a task of `namespace/name`, or `namespace/name@version`, made and run.

        Raises NotFoundError or RefusedError when the daemon will not: an unknown workflow, a
        context that the workflow's schema does not allow.
        """
        made = run(self._operations.submit(workflow, context or {}, options))
        return SubmittedTask(self, made.task_id, duplicate=made.duplicate)

    def submit_many(
        self,
        workflow: str,
        contexts: Iterable[Mapping[str, Any]],
        /,
        *,
        identities: Iterable[str] | None = None,
        **options: Unpack[SubmitManyOptions],
    ) -> "list[SubmittedTask]":
        """Have a task made and run for each context; the tasks, in the order of the contexts.

        Many times faster than `submit` for each: hundreds go into one command, and a few commands
        are on their way at once. `contexts` may be as long as you like and is read as it is sent.

        One that is refused stands in no other's way: when all have been asked for,
        SomeRefusedError has the tasks that were made and the reasons of the others. After an
        UnreachableError some may have been made: with the same `identities` they are not made
        twice.
        """
        asked = self._operations.submit_many(workflow, contexts, options, identities=identities)
        found = run(asked)
        made = {
            place: SubmittedTask(self, each.task_id, duplicate=each.duplicate)
            for place, each in sorted(found.made.items())
        }
        if found.refused:
            raise SomeRefusedError(made, found.refused)
        return list(made.values())

    def get(self, task_id: int) -> Task:
        """The task as it stands; NotFoundError if there is none."""
        return run(self._operations.get(task_id))

    def wait(self, task_id: int, *, timeout_seconds: float | None = None) -> Task:
        """The task, once it has ended, well or not; WaitTimeoutError after so many seconds."""
        return run(self._operations.wait(task_id, timeout_seconds))

    def tasks(self, **options: Unpack[ListOptions]) -> tuple[TaskSummary, ...]:
        """Tasks that fit, newest first."""
        return run(self._operations.tasks(ListTasks(**options)))

    def cancel(self, task_id: int, *, why: str) -> bool:
        """Start nothing more of it and tell what runs; False if it was cancelled already."""
        return run(self._operations.control(TaskAction.CANCEL, task_id, why))

    def pause(self, task_id: int, *, why: str) -> bool:
        """Start nothing more of it until it is resumed; False if it was paused already."""
        return run(self._operations.control(TaskAction.PAUSE, task_id, why))

    def resume(self, task_id: int, *, why: str) -> bool:
        """Go on with a paused task; False if it was not paused."""
        return run(self._operations.control(TaskAction.RESUME, task_id, why))

    def health(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return run(self._operations.health())

    def ask(
        self,
        command_type: str,
        request: Mapping[str, Any],
        *,
        timeout_seconds: float | None = None,
        core_id: str | None = None,
    ) -> Any:
        """Any command of docs/PROTOCOL.md, as plain JSON values; to that core, if one is named."""
        asked = self._operations.ask(
            command_type, request, msgspec.Raw, timeout_seconds=timeout_seconds, core_id=core_id
        )
        return msgspec.json.decode(run(asked))


@dataclass(frozen=True)
class SubmittedTask:
    """A task that was made; `duplicate`: it was there already, under the same identity."""

    client: TaskerClient
    task_id: int
    duplicate: bool = False

    def wait(self, *, timeout_seconds: float | None = None) -> Task:
        return self.client.wait(self.task_id, timeout_seconds=timeout_seconds)

    def get(self) -> Task:
        return self.client.get(self.task_id)

    def cancel(self, *, why: str) -> bool:
        return self.client.cancel(self.task_id, why=why)
