"""The keyword arguments of the clients, the same for both."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from tasker_zmq.domain.beginning import ExecutionMode


class SubmitManyOptions(TypedDict, total=False):
    """How tasks are to be made.

    `scheduled_for`: not to begin before, with its zone. `definition`: a task template for this call
    alone, instead of a published workflow. `worker`: the name of the one that alone may run them.
    """

    priority: int | str
    scheduled_for: datetime | None
    execution_mode: ExecutionMode | str | None
    definition: Mapping[str, Any] | None
    worker: str | None
    tags: tuple[str, ...]
    reason: str | None
    correlation_id: str | None


class SubmitOptions(SubmitManyOptions, total=False):
    """How one task is to be made; two submissions with one `identity` are one task."""

    identity: str | None


class ListOptions(TypedDict, total=False):
    """Which tasks; what is left out does not matter. At most `limit`, 50 unless told."""

    namespace: str | None
    name: str | None
    state: str | None
    limit: int
    before_task_id: int | None
