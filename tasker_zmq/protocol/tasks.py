"""What is asked about tasks: making one, and what its answer tells."""

import msgspec

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.commands import EMPTY


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One task to be created; `identity` makes a repeated submission the same task.

    `namespace` and `priority` are the envelope's when left out; a priority is a number or a word.
    """

    namespace: str | None = None
    name: str
    version: str | None = None  # the newest when left out
    context: msgspec.Raw = EMPTY
    identity: str | None = None
    priority: int | str | None = None
    tags: tuple[str, ...] = ()
    initiator: str | None = None
    source_system: str | None = None
    reason: str | None = None
    correlation_id: str | None = None


class InitializeTask(msgspec.Struct, frozen=True, kw_only=True):
    """Create one task."""

    task_request: TaskRequest


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
