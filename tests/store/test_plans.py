"""Hot statements find their rows by key, however many others there are and whenever planned.

A plan may be made while the tables are still empty (a fresh database) and is kept for the life of
the connection; the server may not have analysed a table that grew, or it may. So each statement is
explained four times.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from tasker_zmq.store import arrays, connection, statements
from tasker_zmq.store.connection import ConnectionLimits
from tasker_zmq.testing import ManualClock
from tests import databases
from tests.store import volume

pytestmark = pytest.mark.xdist_group("plans")  # on one tester: to fill the tables takes a while

NOW = ManualClock().now()
LARGE = re.compile(
    r"tasker_(tasks|workflow_steps|workflow_step_edges|\w*transitions|step_execution_batch\w*"
    r"|worker_registrations)"
)
PLANNED = ("while empty", "while small", "full but never analysed", "analysed")
BLOCKS_MAX = 1_500
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
            "batch_ids": OPEN_BATCHES,
            "partials": ONES,
            "completed": ONES,
            "failed": [0] * 10,
            "completions": [False] * 10,
            "states": ["in_progress"] * 10,
            "transition_counts": [3] * 10,
            "published": [NOW] * 10,
            "reconciliations": ["pending"] * 10,
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
    "cancel_tasks": Case(
        values={
            "task_ids": TASK_IDS_OPEN,
            "from_states": ["pending", "in_progress", "error"],
            "metadata": "{}",
            "now": NOW,
        }
    ),
    "claim_tasks": Case(values={"core_id": volume.CORE, "now": NOW, "at_most": 500}, rows_max=60),
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
    "confirm_starts": Case(
        values={"batch_uuid": UUIDS[0], "step_ids": _running(), "session_id": "s1", "now": NOW}
    ),
    "count_task_steps": Case(values={"task_ids": TASK_IDS}),
    "create_tasks": Case(
        values={
            "task_ids": NEW,
            "named_task_ids": ONES,
            "contexts": ["{}"] * 10,
            "identities": ["identity7", *(f"new{n}" for n in range(9))],
            "priorities": [0] * 10,
            "tags": ["[]"] * 10,
            "initiators": NONE,
            "source_systems": NONE,
            "reasons": NONE,
            "correlation_ids": NONE,
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
    "load_named_steps": Case(values={"batch_uuids": UUIDS, "step_ids": _running()}),
    "load_sent_steps": Case(values={"batch_ids": OPEN_BATCHES}),
    "load_viable_steps": Case(values={"step_ids": _viable(), "core_id": volume.CORE, "now": NOW}),
    "mark_published": Case(values={"batch_ids": OPEN_BATCHES, "moments": [NOW] * 10, "now": NOW}),
    "next_retry": Case(values={"core_id": volume.CORE}, rows_max=10),
    "pause_tasks": Case(values={"task_ids": TASK_IDS_OPEN, "paused": True, "core_id": volume.CORE}),
    "record_heartbeats": Case(
        values={
            "session_ids": [f"s{n}" for n in range(1, 11)],
            "loads": ONES,
            "moments": [NOW] * 10,
            "status": "healthy",
        }
    ),
    "retries_due": Case(values={"core_id": volume.CORE, "now": NOW, "at_most": 50}, rows_max=110),
    "send_batches_again": Case(
        values={
            "batch_ids": OPEN_BATCHES,
            "deliveries": [2] * 10,
            "publications": ONES,
            "now": NOW,
        }
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
            "attempts": [0] * 10,
            "confirmed": [False] * 10,
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
        },
        rows_max=1_000,
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


def prepared(name: str) -> tuple[str, list[str]]:
    """The statement with numbered parameters, and their names in that order."""
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match.group(1) not in order:
            order.append(match.group(1))
        return f"${order.index(match.group(1)) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", number, statements.source(name)), order


def sql(value: object) -> str:
    """A value as it stands in EXECUTE."""
    if isinstance(value, list):
        value = arrays.literal(value)
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


def execute(name: str) -> str:
    _, order = prepared(name)
    return f"EXECUTE {name}({', '.join(sql(CASES[name].values[each]) for each in order)})"


def prepare_all(session: Connection) -> None:
    """PREPARE each statement and have it planned now; the plan is kept for later executions."""
    for name in statements.names():
        session.exec_driver_sql(f"PREPARE {name} AS {prepared(name)[0]}")
        session.exec_driver_sql(f"EXPLAIN {execute(name)}")
    session.commit()


def explain(session: Connection, name: str) -> dict[str, Any]:
    """What really happened; nothing of it stays."""
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute(name)}"
    (plan,) = session.exec_driver_sql(query).scalar_one()
    session.rollback()
    return dict(plan["Plan"])


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def touched(node: Mapping[str, Any]) -> float:
    """Rows that a node returned or looked at in vain, over all its loops."""
    vain = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
    return float((node["Actual Rows"] + vain) * node["Actual Loops"])


def explain_all(session: Connection, found: "Plans", planned: str) -> None:
    for name in statements.names():
        found[planned, name] = explain(session, name)


Plans = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def plans(server_url: str, template_database: str) -> Iterator[Plans]:
    """Every statement's plan, by when it was made."""
    name = f"{template_database}_plans"
    limits = ConnectionLimits(statement_timeout_seconds=60)
    with databases.database(server_url, name, template=template_database) as url:
        engine = connection.create(url, purpose="tests", limits=limits, pool_size=3)
        found: Plans = {}
        with engine.begin() as session:
            volume.make_room(session, NOW)
        with engine.connect() as early, engine.connect() as later, engine.connect() as filling:
            prepare_all(early)
            volume.define(filling, NOW)
            volume.fill(filling, NOW, first=1, last=volume.SMALL)
            prepare_all(later)
            volume.fill(filling, NOW, first=volume.SMALL + 1, last=volume.TASKS)
            volume.fill_batches(filling, NOW)
            explain_all(early, found, PLANNED[0])
            explain_all(later, found, PLANNED[1])
            later.exec_driver_sql("DEALLOCATE ALL")
            prepare_all(later)
            explain_all(later, found, PLANNED[2])
            filling.exec_driver_sql("ANALYZE")
            filling.commit()
            explain_all(later, found, PLANNED[3])
        engine.dispose()
        yield found


def test_every_statement_has_a_case() -> None:
    assert sorted(CASES) == list(statements.names())


@pytest.mark.parametrize("name", statements.names())
@pytest.mark.parametrize("planned", PLANNED)
def test_a_statement_touches_rows_in_proportion_to_what_it_is_asked_for(
    plans: Plans, planned: str, name: str
) -> None:
    plan = plans[planned, name]
    scans = [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and LARGE.match(node["Relation Name"])
    ]
    assert scans == []
    most = max(nodes(plan), key=touched)
    assert touched(most) <= CASES[name].rows_max, most
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= BLOCKS_MAX


@pytest.mark.parametrize("name", ["next_retry", "retries_due"])
@pytest.mark.parametrize("planned", PLANNED)
def test_retries_are_found_through_the_index_of_those_that_wait(
    plans: Plans, planned: str, name: str
) -> None:
    used = {node.get("Index Name") for node in nodes(plans[planned, name])}
    assert "ix_tasker_workflow_steps_next_attempt_at" in used


@pytest.mark.parametrize("planned", PLANNED)
def test_what_this_core_owns_already_costs_a_claim_nothing(plans: Plans, planned: str) -> None:
    plan = plans[planned, "claim_tasks"]
    assert plan["Actual Rows"] == volume.TASKS - volume.ORPHANED_FROM + 1
    assert sum(touched(node) for node in nodes(plan)) < 300


def test_statements_are_explained_on_rows_that_they_move(plans: Plans) -> None:
    empty = {
        name
        for name in statements.names()
        if not any(touched(node) for node in nodes(plans["analysed", name]))
    }
    assert empty == set()
