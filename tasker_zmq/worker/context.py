"""What a handler may ask for beside its inputs: who it is, which attempt, how long it may take."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasker_zmq.worker.cancellation import Cancellation

_log = logging.getLogger("tasker.handler")


def _unreported(_: object) -> None:
    """Outside a worker nobody listens to progress."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """One run of one step. Every field has a default, so a plain test makes one in a line.

    `attempt` counts from 1; `deadline` is the moment at which the worker gives the run up.
    """

    task_id: int = 0
    step_id: int = 0
    step_name: str = ""
    batch_id: str = ""
    attempt: int = 1
    retry_limit: int = 0
    idempotency_key: str = ""
    timeout_seconds: float | None = None
    deadline: datetime | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    worker_config: Mapping[str, Any] = field(default_factory=dict)  # of this worker, for the task
    context: Mapping[str, Any] = field(default_factory=dict)
    previous_results: Mapping[str, Any] = field(default_factory=dict)
    cancellation: Cancellation = field(default_factory=Cancellation, repr=False, compare=False)
    report: Callable[[object], None] = field(default=_unreported, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more; it may turn True while the handler runs."""
        return self.cancellation.is_set

    @property
    def logger(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger whose records carry the ids of this run."""
        fields = {"task_id": self.task_id, "step_id": self.step_id, "step_name": self.step_name}
        fields |= {"batch_id": self.batch_id, "attempt": self.attempt}
        return logging.LoggerAdapter(_log, {"fields": fields})

    def progress(self, value: object) -> None:
        """Tell the daemon how far the step is; `value` is JSON. A hint: it may be lost."""
        self.report(value)


def context_from(**fields: object) -> Context:
    """A Context of which every field is given.

    A frozen dataclass sets each of its fields by a call, which takes longer than a short handler.
    """
    made = object.__new__(Context)
    made.__dict__.update(fields)
    return made
