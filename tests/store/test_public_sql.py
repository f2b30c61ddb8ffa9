"""Functions and views that people and dashboards read: what they say of a known history."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.testing import ManualClock
from tests.store.seeding import HANDLERS, Cast, told


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as open_connection:
        yield open_connection


@pytest.fixture
def cast(connection: Connection, manual_clock: ManualClock) -> Cast:
    return told(connection, manual_clock)


def rows(cast: Cast, query: str, **values: Any) -> list[dict[str, Any]]:
    values["now"] = cast.story.now
    used = {name: value for name, value in values.items() if f":{name}" in query}
    found = cast.story.connection.execute(text(query), used)
    return [dict(row) for row in found.mappings()]


def one(cast: Cast, query: str, **values: Any) -> Mapping[str, Any]:
    (only,) = rows(cast, query, **values)
    return only


def test_ready_tasks_come_in_order_and_no_more_than_wanted(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    later, urgent = (cast.story.task(cast.named_task_id) for _ in range(2))
    connection.execute(
        text("UPDATE tasker_tasks SET priority = 9 WHERE task_id = :t"), {"t": urgent}
    )
    asked = "SELECT * FROM get_ready_tasks_for_processing(:n, CAST(:now AS timestamptz))"
    found = rows(cast, asked, n=10)
    assert [row["task_id"] for row in found] == [urgent, later]
    assert (found[0]["namespace"], found[0]["name"], found[0]["version"]) == (
        "orders", "fulfil_order", "1.0.0",
    )  # fmt: skip
    assert (found[0]["ready_steps"], found[0]["priority"]) == (1, 9)
    assert [row["task_id"] for row in rows(cast, asked, n=1)] == [urgent]
    connection.execute(text("UPDATE tasker_tasks SET paused = true"))
    assert rows(cast, asked, n=10) == []


def test_a_tasks_context_counts_its_steps(cast: Cast) -> None:
    found = one(cast, "SELECT * FROM get_task_execution_context(:t)", t=cast.half_way)
    counts = {name: value for name, value in found.items() if name.endswith("_steps")}
    assert counts == {
        "total_steps": 4, "pending_steps": 1, "in_progress_steps": 1, "waiting_steps": 1,
        "completed_steps": 1, "failed_steps": 0, "ready_steps": 0,
    }  # fmt: skip
    assert rows(cast, "SELECT * FROM get_task_execution_context(999999)") == []


def test_what_two_accounts_differ_in_is_counted_by_batch(cast: Cast) -> None:
    asked = "SELECT * FROM tasker_batch_reconciliation WHERE discrepancies > 0"
    assert one(cast, asked)["reconciliation_status"] == "discrepancy"


def test_a_batch_is_an_orphan_when_its_session_is_over(cast: Cast, connection: Connection) -> None:
    assert rows(cast, "SELECT * FROM tasker_orphaned_batches") == []
    connection.execute(
        text(
            "UPDATE tasker_worker_registrations SET status = 'disconnected', unregistered_at = :t"
        ),
        {"t": cast.story.now},
    )
    orphan = one(cast, "SELECT * FROM tasker_orphaned_batches")
    assert (orphan["batch_id"], orphan["steps_in_progress"]) == (cast.open_batch.batch_id, 1)


def test_load_is_told_by_session_and_by_worker(cast: Cast, connection: Connection) -> None:
    connection.execute(text("UPDATE tasker_worker_registrations SET current_load = 3"))
    assert one(cast, "SELECT * FROM tasker_worker_load")["current_load"] == 3
    found = one(cast, "SELECT * FROM tasker_current_worker_load")
    assert (found["worker_name"], found["sessions"]) == ("anna", 1)
    assert (found["credit"], found["current_load"], found["room"]) == (4, 3, 1)


def test_what_a_worker_can_do_is_one_row(cast: Cast) -> None:
    found = one(cast, "SELECT * FROM worker_capabilities")
    assert (found["worker_name"], found["language_runtime"]) == ("anna", "python")
    assert found["handlers"] == list(HANDLERS)
    assert found["namespaces"] == ["orders"]


def test_commands_are_told_from_their_audit(cast: Cast, connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO tasker_worker_command_audit (created_at, core_id, command_type, "
            "direction, command_id, outcome, execution_time_ms) "
            "VALUES (:at, 'core-1', 'GetTask', 'received', 'c-1', 'success', 2.5)"
        ),
        {"at": cast.story.now},
    )
    found = one(cast, "SELECT * FROM command_executions")
    assert (found["command_id"], found["execution_time_ms"]) == ("c-1", 2.5)


def test_the_current_transition_is_the_last_one(cast: Cast) -> None:
    asked = "SELECT to_state FROM tasker_current_task_transitions WHERE task_id = :t"
    assert one(cast, asked, t=cast.failed)["to_state"] == "error"
    step = cast.story.step(cast.failed, "charge")
    asked = "SELECT to_state FROM tasker_current_step_transitions WHERE workflow_step_id = :s"
    assert one(cast, asked, s=step)["to_state"] == "error"
