"""A workflow's definition after it was read and checked, whatever dialect it was written in."""

from enum import StrEnum
from typing import Any

import msgspec

from tasker_zmq.domain.ids import HandlerClass


class BackoffKind(StrEnum):
    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    CONSTANT = "constant"


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before the next attempt; both bounds in milliseconds."""

    kind: BackoffKind = BackoffKind.EXPONENTIAL
    base_ms: int = 1_000
    ceiling_ms: int = 30_000


class StepDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a step gets where its template says nothing; no `retry_limit`: its dialect's own."""

    retry_limit: int | None = None
    backoff: Backoff = Backoff()
    timeout_seconds: float = 300.0


class StepTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a workflow, with the environment's overrides already applied."""

    name: str
    handler_class: HandlerClass
    handler_config: dict[str, Any] = {}
    depends_on: tuple[str, ...] = ()
    description: str = ""
    retryable: bool = True
    retry_limit: int = 3  # retries after the first try: total tries are one more
    backoff: Backoff = Backoff()
    timeout_seconds: float = 300.0
    confirm_start: bool = False


class TaskTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A named task: steps in the order they were given; parents may stand behind their children."""

    namespace: str
    name: str
    version: str
    steps: tuple[StepTemplate, ...]
    description: str = ""
    input_schema: dict[str, Any] | None = None
    source: dict[str, Any] = {}  # the mapping as its author gave it, unknown keys included

    @property
    def full_name(self) -> str:
        """`namespace/name@version`, the form in which people write it."""
        return f"{self.namespace}/{self.name}@{self.version}"
