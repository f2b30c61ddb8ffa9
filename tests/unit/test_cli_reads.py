"""The groups that read, on a real database and without any daemon."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tasker_zmq.store.connection import ConnectionLimits, create
from tasker_zmq.store.reads.invariants import INVARIANTS
from tests.unit.conftest import Seeded
from tests.unit.shell import tasker


@pytest.fixture(autouse=True)
def _database(seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", seeded.url)


def parsed(*arguments: str) -> Any:
    result = tasker(*arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_tasks_list_is_a_table_for_people_and_an_array_for_programs(seeded: Seeded) -> None:
    result = tasker("tasks", "list")
    assert result.exit_code == 0
    assert "orders/fulfil_order@1.0.0" in result.stdout
    assert not re.search(r"\d{4}-\d\d-\d\dT", result.stdout)  # moments are told relative to now
    rows = parsed("tasks", "list", "--state", "error")
    assert [row["task_id"] for row in rows] == [seeded.cast.failed]
    assert rows[0]["requested_at"].endswith("Z")
    by_workflow = parsed("tasks", "list", "--workflow", "orders/fulfil_order@1.0.0", "--tag", "vip")
    assert [row["task_id"] for row in by_workflow] == [seeded.cast.complete]


def test_a_full_page_of_tasks_says_how_to_go_on() -> None:
    result = tasker("tasks", "list", "--limit", "1")
    assert "--before " in result.stderr
    before = result.stderr.split("--before ")[1].strip()
    assert len(parsed("tasks", "list", "--before", before)) == 2


def test_tables_stay_readable_at_a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (("tasks", "list"), ("batches", "list"), ("workers", "list")):
        lines = tasker(*arguments).stdout.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 100, arguments


def test_tasks_show_draws_the_steps_and_says_why_it_waits(seeded: Seeded) -> None:
    shown = tasker("tasks", "show", str(seeded.cast.half_way)).stdout
    lines = shown.splitlines()
    assert any("reserve" in line and "waiting_for_retry" in line for line in lines)
    assert any("charge" in line and "in_progress" in line for line in lines if "anna" in line)
    assert "reserve waits " in shown
    assert "ship waits for reserve and charge." in shown


def test_tasks_show_takes_a_key_and_tells_the_error() -> None:
    shown = tasker("tasks", "show", "ORD-2").stdout
    assert "PermanentError: card declined" in shown
    assert "It ended in error" in shown
    as_object = parsed("tasks", "show", "ORD-1")
    assert as_object["counts"] == {"complete": 4}
    assert as_object["context"] == {"order_id": 1}
    assert as_object["explanation"].startswith("It completed")


def test_what_is_not_there_is_said_with_the_nearest() -> None:
    result = tasker("tasks", "show", "ORD-3")
    assert result.exit_code == 3
    assert "did you mean 'ORD-2' or 'ORD-1'?" in result.stderr
    for arguments in (
        ("tasks", "show", "999999"),
        ("steps", "show", "999999"),
        ("steps", "show", "nonsense"),
        ("batches", "show", "ffff"),
        ("ledger", "show", "999999"),
        ("workflows", "show", "nonsense"),
        ("tasks", "watch", "999999"),
        ("batches", "list", "--task", "nonsense"),
    ):
        result = tasker(*arguments)
        assert (result.exit_code, result.stdout) == (3, ""), arguments
        assert result.stderr.startswith("error: no") or "has no" in result.stderr


def test_steps_show_takes_an_id_or_a_task_with_a_name(seeded: Seeded) -> None:
    by_name = parsed("steps", "show", "ORD-2/charge")
    assert by_name == parsed("steps", "show", str(seeded.charge))
    assert by_name["error"]["message"] == "card declined"
    shown = tasker("steps", "show", "ORD-2/charge").stdout
    for word in ("not retryable", "transitions", "dead letters", "permanent_error", "messages"):
        assert word in shown
    result = tasker("steps", "show", "ORD-2/charg")
    assert (result.exit_code, "did you mean 'charge'?" in result.stderr) == (3, True)


def test_batches_are_listed_and_shown_by_the_beginning_of_their_uuid(seeded: Seeded) -> None:
    (row,) = parsed("batches", "list", "--accounts", "discrepancy")
    shown = parsed("batches", "show", row["batch_uuid"])
    assert [each["kind"] for each in shown["discrepancies"]] == ["counts_differ"]
    page = tasker("batches", "show", str(row["batch_id"])).stdout
    for word in ("first account", "second account", "differences", "counts_differ"):
        assert word in page
    several = tasker("batches", "show", seeded.cast.open_batch.batch_uuid[:8])
    assert (several.exit_code, "more than one batch" in several.stderr) == (3, True)


def test_the_ledger_is_tailed_with_filters(seeded: Seeded) -> None:
    rows = parsed("ledger", "tail", "--task", "ORD-1", "--type", "partial_result")
    assert [row["step"] for row in rows] == ["validate", "reserve", "charge", "ship"]
    table = tasker("ledger", "tail", "--verdict", "noted").stdout
    assert "in_progress" in table
    (row,) = parsed("ledger", "tail", "--verdict", "noted")
    of_batch = parsed("ledger", "tail", "--batch", str(seeded.cast.open_batch.batch_id))
    assert row["id"] in [each["id"] for each in of_batch]


def test_ledger_show_has_the_message_to_the_byte(seeded: Seeded) -> None:
    (row,) = parsed("ledger", "tail", "--verdict", "noted")
    raw = tasker("ledger", "show", str(row["id"]), "--raw").stdout
    assert raw.startswith('{"status":  "in_progress", ')
    assert parsed("ledger", "show", str(row["id"]))["raw"] == raw
    assert raw in tasker("ledger", "show", str(row["id"])).stdout


def test_bytes_that_could_drive_a_terminal_never_reach_it(seeded: Seeded) -> None:
    engine = create(seeded.url, purpose="tests", limits=ConnectionLimits())
    with engine.begin() as connection:
        entry = connection.execute(
            text(
                "INSERT INTO tasker_step_execution_batch_received_results (received_at, "
                "message_type, core_id, verdict, processed_at, raw_bytes, worker_id) "
                "VALUES (now(), 'undecodable', 'core-1', 'rejected', now(), :raw, :worker) "
                "RETURNING id"
            ),
            {"raw": b"\x1b[2J\xff", "worker": "\x1b[31mred"},
        ).scalar_one()
    engine.dispose()
    result = tasker("ledger", "show", str(entry))
    assert "\x1b" not in result.stdout
    assert ".[2J" in result.stdout
    assert tasker("ledger", "show", str(entry), "--raw").stdout_bytes == b"\x1b[2J\xff"
    assert "\x1b" not in tasker("ledger", "tail").stdout


def test_workers_are_listed_with_their_load() -> None:
    table = tasker("workers", "list").stdout
    assert "anna" in table
    assert "0/4" in table
    assert parsed("workers", "list")[0]["supported_tasks"] == ["orders/fulfil_order@1.0.0"]


def test_workflows_are_listed_and_drawn() -> None:
    assert parsed("workflows", "list")[0]["tasks"] == 3
    page = tasker("workflows", "show", "fulfil_order").stdout
    assert "orders/fulfil_order@1.0.0" in page
    assert "1 complete" in page
    assert "\N{BLACK CIRCLE} validate" in page
    mermaid = tasker("workflows", "show", "orders/fulfil_order", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart TD")
    assert parsed("workflows", "show", "orders/fulfil_order")["steps"][3]["name"] == "ship"
    result = tasker("workflows", "show", "orders/fulfill_order")
    assert "did you mean 'orders/fulfil_order@1.0.0'" in result.stderr


def test_batches_are_reconciled_again_and_agree_with_what_was_stored(seeded: Seeded) -> None:
    found = parsed("batches", "reconcile", "--all")
    assert found["checked"] == found["agree"] > 3
    assert (found["pending"], found["disagreements"]) == (1, [])
    (row,) = parsed("batches", "list", "--accounts", "discrepancy")
    by_id = str(row["batch_id"])
    assert parsed("batches", "reconcile", row["batch_uuid"], by_id)["checked"] == 1
    with changed(
        seeded,
        "UPDATE tasker_step_execution_batch_discrepancies SET partial_says = 'else'",
        undo="UPDATE tasker_step_execution_batch_discrepancies SET partial_says = :said",
        said=parsed("batches", "show", by_id)["discrepancies"][0]["partial_says"],
    ):
        result = tasker("batches", "reconcile", "--all", "-o", "json")
        table = tasker("batches", "reconcile", by_id)
    assert (result.exit_code, table.exit_code) == (1, 1)
    (disagreement,) = json.loads(result.stdout)["disagreements"]
    assert disagreement["batch_id"] == row["batch_id"]
    assert disagreement["stored"]["differences"][0]["partial_says"] == "else"
    assert disagreement["computed"]["status"] == "discrepancy"
    assert "discrepancy: counts_differ" in table.stdout
    assert "1 batches checked, 0 agree" in table.stdout


def test_reconcile_wants_batches_or_all_of_them_and_known_ones() -> None:
    assert tasker("batches", "reconcile").exit_code == 2
    assert tasker("batches", "reconcile", "1", "--all").exit_code == 2
    assert tasker("batches", "reconcile", "999999").exit_code == 3


def test_watching_a_task_that_has_ended_tells_its_end_in_the_exit_code() -> None:
    complete = tasker("tasks", "watch", "ORD-1")
    assert (complete.exit_code, "It completed" in complete.stdout) == (0, True)
    assert "ship: {}" in complete.stdout
    failed = tasker("tasks", "watch", "ORD-2", "-o", "json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["state"] == "error"
    assert "error: task" in failed.stderr


def test_watching_ends_after_its_time(seeded: Seeded) -> None:
    result = tasker("tasks", "watch", str(seeded.cast.half_way), "--timeout", "0")
    assert result.exit_code == 1
    assert "still in progress" in result.stderr
    assert "charge: in progress (attempt 1 of 1) on anna" in result.stderr
    assert tasker("tasks", "watch", "1", "--timeout", "soon").exit_code == 2


@contextmanager
def changed(seeded: Seeded, change: str, *, undo: str, **values: object) -> Iterator[None]:
    """The database with one change that no part of ours would make."""
    engine = create(seeded.url, purpose="tests", limits=ConnectionLimits())
    try:
        with engine.begin() as connection:
            connection.execute(text(change), values)
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text(undo), values)
        engine.dispose()


def test_doctor_checks_the_invariants(seeded: Seeded) -> None:
    found = parsed("doctor", "--invariants")
    assert (found["violations"], found["unchecked"]) == ([], [])
    assert found["checked"] == [invariant.name for invariant in INVARIANTS]
    change = "UPDATE tasker_tasks SET transitions = transitions {} 1 WHERE task_id = :task_id"
    with changed(
        seeded, change.format("+"), undo=change.format("-"), task_id=int(seeded.cast.complete)
    ):
        result = tasker("doctor", "--invariants")
        as_json = tasker("doctor", "--invariants", "-o", "json")
    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert "I12 task history" in result.stdout
    (violation,) = json.loads(as_json.stdout)["violations"]
    assert violation["invariant"] == "I12 task history"
    assert violation["subject"] == f"task {seeded.cast.complete}"
    assert "transitions" in violation["detail"]


@pytest.mark.parametrize("limit", [("--seconds", "500ms"), ()], ids=["its time", "the lock's"])
def test_doctor_says_what_it_could_not_check_in_time(
    seeded: Seeded, limit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_LOCK_TIMEOUT_SECONDS", "1" if limit else "0.5")
    engine = create(seeded.url, purpose="tests", limits=ConnectionLimits())
    with engine.begin() as connection:  # whoever reads the dead letters waits for this
        connection.execute(text("LOCK TABLE tasker_dead_letters IN ACCESS EXCLUSIVE MODE"))
        result = tasker("doctor", "--invariants", *limit, "-o", "json")
        table = tasker("doctor", "--invariants", *limit)
    engine.dispose()
    assert (result.exit_code, table.exit_code) == (1, 1)
    found = json.loads(result.stdout)
    assert (found["violations"], found["unchecked"]) == ([], ["I7 dead letters", "open letters"])
    assert len(found["checked"]) == len(INVARIANTS) - 2
    assert "not checked: I7 dead letters took longer than" in table.stderr
    assert tasker("doctor", "--seconds", "5").exit_code == 2
