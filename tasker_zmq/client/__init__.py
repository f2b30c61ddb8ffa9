"""The client: submits tasks, waits for them and asks about them, from threads or an event loop."""

from tasker_zmq.client.asynchronous import AsyncTaskerClient
from tasker_zmq.client.client import SubmittedTask, TaskerClient
from tasker_zmq.client.many import SomeRefusedError
from tasker_zmq.client.views import Task, TaskFailedError, TaskStep, TaskSummary, WaitTimeoutError

__all__ = [
    "AsyncTaskerClient",
    "SomeRefusedError",
    "SubmittedTask",
    "Task",
    "TaskFailedError",
    "TaskStep",
    "TaskSummary",
    "TaskerClient",
    "WaitTimeoutError",
]
