"""A durable workflow engine: state in PostgreSQL, work over ZeroMQ; this is the handler API.

Importing this package opens nothing and loads no socket library: a module of handlers stays a
plain module in plain tests.
"""

from tasker_zmq.errors import HandlerDefinitionError, PermanentError, RetryableError
from tasker_zmq.worker.context import Context
from tasker_zmq.worker.handlers import StepHandler, handler
from tasker_zmq.worker.steps import step
from tasker_zmq.worker.workflow import Workflow, workflow

__all__ = [
    "Context",
    "HandlerDefinitionError",
    "PermanentError",
    "RetryableError",
    "StepHandler",
    "Workflow",
    "handler",
    "step",
    "workflow",
]
