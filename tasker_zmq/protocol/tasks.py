"""What is asked about tasks: making one, and what its answer tells."""

import msgspec

from tasker_zmq.domain.beginning import ExecutionMode
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.domain.states import StepState
from tasker_zmq.protocol.commands import EMPTY, NULL


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One task to be created; `identity` makes a repeated submission the same task.

    `namespace` and `priority` are the envelope's when left out; a priority is a number or a word.
    """

    namespace: str | None = None
    name: str | None = None  # that of the `workflow` that comes along, when left out
    version: str | None = None  # the newest when left out
    context: msgspec.Raw = EMPTY
    identity: str | None = None
    priority: int | str | None = None
    tags: tuple[str, ...] = ()
    initiator: str | None = None
    source_system: str | None = None
    reason: str | None = None
    correlation_id: str | None = None
    scheduled_for: str | None = None  # ISO 8601 with its zone: not to begin before
    execution_mode: ExecutionMode | None = None


class InitializeTask(msgspec.Struct, frozen=True, kw_only=True):
    """Create one task; `workflow` is a task template for this task, instead of a published one."""

    task_request: TaskRequest = TaskRequest()
    workflow: msgspec.Raw = NULL


class GraphEdge(
    msgspec.Struct, frozen=True, kw_only=True, rename={"from_step": "from", "to_step": "to"}
):
    """`to` waits for `from`."""

    from_step: str
    to_step: str


class WorkflowGraph(msgspec.Struct, frozen=True, kw_only=True):
    """Step names and who waits for whom."""

    steps: tuple[str, ...]
    edges: tuple[GraphEdge, ...]


class TaskInitialized(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to InitializeTask; `duplicate`: the task was there already."""

    task_id: TaskId
    duplicate: bool
    named_task: str
    step_count: int
    workflow_graph: WorkflowGraph
    candidate_workers: tuple[str, ...] = ()  # connected here, and able to run one of its steps
    estimated_duration_ms: int | None = None  # what the newest runs took; null when unknown
    scheduled_for: str | None = None


class QuerySteps(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first; every filter is optional, all of them must hold."""

    task_ids: tuple[TaskId, ...] = ()
    state: StepState | None = None
    handler: str | None = None
    namespace: str | None = None
    limit: int = 50
    before_step_id: int | None = None
