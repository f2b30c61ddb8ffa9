"""Data-plane messages: `step_batch` out; `partial_result`, `batch_completion`, older forms back.

Values that only travel through (contexts, outputs) stay `msgspec.Raw`: they are neither decoded
nor encoded again, so numbers, key order and escapes survive.
"""

from typing import Literal

import msgspec

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId, TaskId

NULL = msgspec.Raw(b"null")


class StepMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about this sending of a step; `attempt` counts from 0."""

    attempt: int
    retry_limit: int
    timeout_ms: int
    created_at: str
    idempotency_key: str


class StepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One step to run, with everything that its handler needs.

    `worker_configuration` is what this very worker declared for the named task, unless it is empty.
    """

    step_id: StepId
    task_id: TaskId
    step_name: str
    handler_class: str
    handler_config: msgspec.Raw
    task_context: msgspec.Raw
    previous_results: msgspec.Raw
    depends_on_steps: tuple[str, ...]
    metadata: StepMetadata
    worker_configuration: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class StepBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Steps sent together to one session; `publication` counts 1, 2, 3... per session."""

    message_type: Literal["step_batch"] = "step_batch"
    batch_id: BatchUuid
    protocol_version: str
    steps: tuple[StepRequest, ...]
    core_id: str | None = None
    session_id: SessionId | None = None
    publication: int | None = None
    delivery: int = 1
    confirm_start: bool = False


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed; `retryable: false` ends its retries."""

    message: str = ""
    error_type: str | None = None
    backtrace: list[str] | None = None
    retryable: bool | None = None
    retry_after_seconds: float | None = None


class PartialResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="partial_result"
):
    """A worker reports one step of a batch, the moment it ends (or starts: `in_progress`)."""

    batch_id: BatchUuid
    step_id: StepId
    status: str
    output: msgspec.Raw = NULL
    error: StepError | None = None
    retryable: bool | None = None
    worker_id: str | None = None
    sequence: int | None = None  # counts from 1 per session and batch, so a gap shows
    timestamp: str | None = None
    execution_time_ms: float | None = None
    session_id: SessionId | None = None
    progress: msgspec.Raw = NULL
    resend: int | None = None


class StepSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One step's line in a batch completion."""

    step_id: StepId
    final_status: str
    execution_time_ms: float | None = None
    worker_id: str | None = None
    output_digest: str | None = None


class BatchCompletion(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="batch_completion"
):
    """A worker's closing account of a batch, sent once all its steps have ended."""

    batch_id: BatchUuid
    protocol_version: str = "1.0"
    total_steps: int
    completed_steps: int
    failed_steps: int
    in_progress_steps: int = 0
    step_summaries: tuple[StepSummary, ...] = ()
    completed_at: str | None = None
    total_execution_time_ms: float | None = None
    session_id: SessionId | None = None
    worker_id: str | None = None
    worker_performance_stats: msgspec.Raw = NULL


class BatchError(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="batch_error"
):
    """The worker could not process the batch at all."""

    batch_id: BatchUuid
    error: StepError
    session_id: SessionId | None = None
    worker_id: str | None = None


class OldStepMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the older response says beside a step's result."""

    execution_time_ms: float | None = None
    handler_version: str | None = None
    retryable: bool | None = None


class OldStepResult(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the older one-shot response."""

    step_id: StepId
    status: str
    output: msgspec.Raw = NULL
    error: StepError | None = None
    metadata: OldStepMetadata | None = None


class OldResponse(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="results"
):
    """The older one-shot response of the `results` topic: partial results and completion in one."""

    batch_id: BatchUuid
    results: tuple[OldStepResult, ...]
    protocol_version: str = "1.0"
    session_id: SessionId | None = None
    worker_id: str | None = None


ResultMessage = PartialResult | BatchCompletion | BatchError | OldResponse
