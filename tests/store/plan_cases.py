"""For each statement: values that make it work for its living, and how many rows it may touch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasker_zmq.testing import ManualClock
from tests.store import volume

NOW = ManualClock().now()
SMALL_BATCH = 400  # rows that a node may touch for ten messages, steps or batches


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a statement is asked for, and how many rows any node of its plan may touch."""

    values: Mapping[str, Any]
    rows_max: int = SMALL_BATCH


def _running(count: int = volume.BATCH_SIZE) -> list[int]:
    """Steps in progress, spread over their range."""
    span = (volume.WAITING_FROM - volume.COMPLETE_UP_TO) // count
    return [(volume.COMPLETE_UP_TO + n * span) * volume.STEPS + 2 for n in range(count)]


def _viable(count: int = volume.BATCH_SIZE) -> list[int]:
    return [(volume.RUNNING_UP_TO + n * 50) * volume.STEPS + 1 for n in range(count)]


TASK_IDS = [volume.COMPLETE_UP_TO + n * 100 + 1 for n in range(10)]
TASK_IDS_OPEN = [volume.RUNNING_UP_TO + n * 10 + 1 for n in range(10)]
OPEN_BATCHES = list(range(6_802, 6_822, 2))
UUIDS = [f"00000000-0000-0000-0000-{7 * n + 1:012x}" for n in range(10)]
NEW = [1_000_000 + n for n in range(10)]
NONE: list[Any] = [None] * 10
ONES = [1] * 10

CASES: dict[str, Case] = {
    "adopt_batches": Case(
        values={
            "batch_uuids": UUIDS,
            "worker_id": 3,
            "registration_id": 1,
            "session_id": "new",
            "core_id": volume.CORE,
            "instance": "life",
            "registrations": 2,
            "now": NOW,
        }
    ),
    "apply_results": Case(
        values={
            "step_ids": _running(),
            "from_states": ["in_progress"] * 10,
            "to_states": ["complete"] * 10,
            "events": ["complete"] * 10,
            "results": ["{}"] * 10,
            "errors": NONE,
            "next_attempts": NONE,
            "worker_names": ["anna"] * 10,
            "uncharged": [0] * 10,
            "lost": [0] * 10,
            "unheard": [False] * 10,
            "carried_in": NONE,
            "batch_ids": OPEN_BATCHES,
            "partials": ONES,
            "completed": ONES,
            "failed": [0] * 10,
            "completions": [False] * 10,
            "states": ["in_progress"] * 10,
            "transition_counts": [3] * 10,
            "published": [NOW] * 10,
            "reconciliations": ["pending"] * 10,
            "former_transitions": NONE,
            "former_partials": NONE,
            "former_completions": NONE,
            "former_sessions": NONE,
            "foreseen": None,
            "entry_batch_ids": OPEN_BATCHES,
            "batch_step_ids": ONES,
            "message_types": ["partial_result"] * 10,
            "worker_ids": ["anna"] * 10,
            "session_ids": ["s1"] * 10,
            "sequences": ONES,
            "statuses": ["completed"] * 10,
            "execution_times": [1.5] * 10,
            "verdicts": ["applied"] * 10,
            "processing_errors": NONE,
            "raw_messages": ["{}"] * 10,
            "raw_bytes": [None, b"\x00\xff", *NONE[:8]],
            "arrow_batch_ids": OPEN_BATCHES,
            "arrow_sort_keys": [3] * 10,
            "arrow_from": ["created"] * 10,
            "arrow_to": ["in_progress"] * 10,
            "arrow_events": ["start"] * 10,
            "arrow_last": [True] * 10,
            "core_id": volume.CORE,
            "now": NOW,
        }
    ),
    "associate_worker": Case(
        values={
            "worker_id": 3,
            "namespaces": ["tests"] * 10,
            "task_names": ["chain", *(f"none{n}" for n in range(9))],
            "versions": ["*"] * 10,
            "configurations": ["{}"] * 10,
            "priorities": [200] * 10,
            "now": NOW,
        }
    ),
    "cancel_tasks": Case(
        values={
            "task_ids": TASK_IDS_OPEN,
            "from_states": ["pending", "in_progress", "error"],
            "metadata": "{}",
            "now": NOW,
        }
    ),
    "fence_cores": Case(values={"core_id": volume.CORE, "now": NOW}, rows_max=60),
    "claim_tasks": Case(values={"core_id": volume.CORE, "now": NOW, "at_most": 500}, rows_max=60),
    "claim_scheduled": Case(values={"core_id": volume.CORE, "now": NOW, "at_most": 50}),
    "control_steps": Case(
        values={
            "step_ids": _viable(),
            "from_states": ["pending", "error"],
            "to_state": "resolved_manually",
            "event": "resolve_manually",
            "results": "null",
            "metadata": "{}",
            "core_id": volume.CORE,
            "now": NOW,
        }
    ),
    "close_sessions": Case(values={"session_ids": [f"s{n}" for n in range(1, 11)], "now": NOW}),
    "confirm_starts": Case(
        values={"batch_uuid": UUIDS[0], "step_ids": _running(), "session_id": "s1", "now": NOW}
    ),
    "count_task_steps": Case(values={"task_ids": TASK_IDS}),
    "create_tasks": Case(
        values={
            "task_ids": NEW,
            "named_task_ids": ONES,
            "offsets": [volume.STEPS * n for n in range(10)],
            "step_ids": [10_000_000 + n for n in range(10 * volume.STEPS)],
            "contexts": ["{}"] * 10,
            "identities": ["identity7", *(f"new{n}" for n in range(9))],
            "priorities": [0] * 10,
            "tags": ["[]"] * 10,
            "initiators": NONE,
            "source_systems": NONE,
            "reasons": NONE,
            "correlation_ids": NONE,
            "scheduled_fors": NONE,
            "certain": False,
            "core_id": volume.CORE,
            "now": NOW,
        },
        rows_max=1_000,
    ),
    "expired_batches": Case(values={"batch_ids": OPEN_BATCHES}),
    "fail_tasks": Case(values={"task_ids": TASK_IDS, "now": NOW}),
    "find_named_task": Case(values={"namespace": "tests", "name": "chain", "version": None}),
    "load_accounts": Case(values={"batch_ids": OPEN_BATCHES}),
    "load_controlled_steps": Case(
        values={"step_ids": _viable(), "core_id": "core-9", "command_id": "c", "now": NOW}
    ),
    "load_controlled_tasks": Case(values={"task_ids": TASK_IDS, "core_id": "core-9", "now": NOW}),
    "load_directed_steps": Case(values={"step_ids": [*_viable(5), *_running(5)], "now": NOW}),
    "load_named_steps": Case(values={"batch_uuids": UUIDS, "step_ids": _running()}),
    "load_sent_steps": Case(values={"batch_ids": OPEN_BATCHES}),
    "load_viable_steps": Case(values={"step_ids": _viable(), "core_id": volume.CORE, "now": NOW}),
    "mark_published": Case(values={"batch_ids": OPEN_BATCHES, "moments": [NOW] * 10, "now": NOW}),
    "next_scheduled": Case(values={"now": NOW}, rows_max=10),
    "next_retry": Case(values={"core_id": volume.CORE}, rows_max=10),
    "pause_tasks": Case(
        values={"task_ids": TASK_IDS_OPEN, "paused": True, "core_id": volume.CORE, "now": NOW}
    ),
    "recent_durations": Case(values={"at_most": 2_000}, rows_max=2_000),
    "record_heartbeats": Case(
        values={
            "session_ids": [f"s{n}" for n in range(1, 11)],
            "loads": ONES,
            "moments": [NOW] * 10,
            "credits": ONES,
            "status": "healthy",
        }
    ),
    "record_reachability": Case(
        values={
            "worker_names": [f"worker{n}" for n in range(1, 11)],
            "reachable": [True, False, None, True, False, True, True, True, True, None],
            "core_id": volume.CORE,
            "transport": "zeromq",
            "now": NOW,
        }
    ),
    "register_worker": Case(
        values={
            "worker_name": "anna",
            "metadata": "{}",
            "declared_tasks": "[]",
            "exclusive": False,
            "session_id": "new",
            "core_id": volume.CORE,
            "connection_type": "zeromq",
            "connection_details": "{}",
            "protocol_version": "1.0",
            "handlers": "[]",
            "credit": 1,
            "now": NOW,
        }
    ),
    "release_tasks": Case(
        values={
            "task_ids": TASK_IDS_OPEN,
            "core_id": volume.CORE,
            "reason": "for others",
            "asked_by": None,
            "expires_at": NOW,
            "now": NOW,
        }
    ),
    "reserve_ids": Case(values={"table": "tasker_tasks", "column": "task_id", "count": 100}),
    "retries_due": Case(values={"core_id": volume.CORE, "now": NOW, "at_most": 50}, rows_max=110),
    "send_batches_again": Case(
        values={
            "batch_ids": OPEN_BATCHES,
            "deliveries": [2] * 10,
            "publications": ONES,
            "now": NOW,
        }
    ),
    "sessions_of_worker": Case(
        values={"session_ids": [f"s{n}" for n in range(1, 11)], "worker_id": 1}
    ),
    "settle_batches": Case(
        values={
            "batch_ids": OPEN_BATCHES,
            "statuses": ["discrepancy"] * 10,
            "difference_batch_ids": OPEN_BATCHES,
            "difference_step_ids": NONE,
            "kinds": ["completion_missing"] * 10,
            "partials_say": NONE,
            "completions_say": NONE,
            "now": NOW,
        }
    ),
    "start_batches": Case(
        values={
            "step_ids": _viable(),
            "step_batch_ids": NEW,
            "orders": ONES,
            "handler_classes": ["tests.work"] * 10,
            "attempts": ONES,
            "confirmed": [False] * 10,
            "batch_step_ids": NEW,
            "batch_ids": NEW,
            "batch_uuids": [f"10000000-0000-0000-0000-{n:012x}" for n in range(10)],
            "batch_task_ids": NONE,
            "batch_handlers": NONE,
            "registration_ids": ONES,
            "session_ids": ["s1"] * 10,
            "batch_sizes": ONES,
            "timeouts": [60] * 10,
            "publications": ONES,
            "core_id": volume.CORE,
            "now": NOW,
        }
    ),
    "start_tasks": Case(values={"task_ids": [19_001 + n for n in range(10)], "now": NOW}),
    "steps_of_tasks": Case(
        values={
            "task_ids": TASK_IDS_OPEN,
            "states": ["pending"],
            "after_step_id": 0,
            "at_most": 1_000,
        }
    ),
    "sweep_viable_steps": Case(
        values={
            "core_id": volume.CORE,
            "after_priority": 0,
            "after_task_id": 18_500,
            "at_most": 100,
            "steps_max": 2_000,
            "crowded_tasks": [1],
            "crowded_steps": [1],
            "crowded_priority": 0,
        },
        rows_max=1_000,
    ),
    "same_named_task": Case(
        values={
            "namespace": "tests",
            "name": "chain",
            "version": None,
            "named_task_id": 1,
            "digest": "d",
        }
    ),
    "show_task": Case(values={"task_id": TASK_IDS[0]}),
    "show_task_steps": Case(values={"task_id": TASK_IDS[0]}),
    "show_task_edges": Case(values={"task_id": TASK_IDS[0]}),
    "task_states": Case(values={"task_ids": TASK_IDS}),
    "take_over_batches": Case(
        values={"core_id": volume.CORE, "now": NOW, "at_most": 100}, rows_max=100
    ),
    "take_submissions": Case(values={"now": NOW, "at_most": 100}),
    "next_submission": Case(values={"now": NOW}),
    "settle_submissions": Case(
        values={"made": [1], "refused": [2], "refusals": ["no"], "now": NOW}
    ),
    "unsettled_batches": Case(
        values={"core_id": volume.CORE, "after_batch_id": 6_900, "at_most": 20}, rows_max=100
    ),
    "viable_steps_of_tasks": Case(
        values={
            "task_ids": TASK_IDS_OPEN,
            "core_id": volume.CORE,
            "now": NOW,
            "at_most": 1_000,
        }
    ),
    "write_dead_letters": Case(
        values={
            "step_ids": _running(),
            "reasons": ["manual"] * 10,
            "fingerprints": ["f"] * 10,
            "now": NOW,
        }
    ),
}
