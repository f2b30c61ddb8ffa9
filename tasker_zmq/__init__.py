"""A durable workflow engine: state in PostgreSQL, work over ZeroMQ; this is the handler API.

Importing this package opens nothing and loads no socket library: a module of handlers stays a
plain module in plain tests.
"""

from typing import TYPE_CHECKING, Any

from tasker_zmq.errors import HandlerDefinitionError, PermanentError, RetryableError
from tasker_zmq.worker.context import Context
from tasker_zmq.worker.handlers import StepHandler, handler
from tasker_zmq.worker.steps import step
from tasker_zmq.worker.workflow import Workflow, workflow

if TYPE_CHECKING:
    from tasker_zmq.client import AsyncTaskerClient, TaskerClient

__all__ = [
    "AsyncTaskerClient",
    "Context",
    "HandlerDefinitionError",
    "PermanentError",
    "RetryableError",
    "StepHandler",
    "TaskerClient",
    "Workflow",
    "handler",
    "step",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """The clients, which need sockets, only when somebody asks for them."""
    if name in {"AsyncTaskerClient", "TaskerClient"}:
        from tasker_zmq import client

        return getattr(client, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
