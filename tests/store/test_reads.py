"""What is stored, as the questions of people find it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.domain.ids import BatchId, StepId, TaskId
from tasker_zmq.domain.states import StepState
from tasker_zmq.store.reads import batches, health, ledger, steps, tasks, workers, workflows
from tasker_zmq.store.reads.batches import BatchFilter
from tasker_zmq.store.reads.ledger import LedgerFilter
from tasker_zmq.store.reads.standing import error_text, live_sessions, standing
from tasker_zmq.store.reads.steps import StepFilter
from tasker_zmq.store.reads.tasks import TaskFilter
from tasker_zmq.testing import ManualClock
from tests.store.seeding import HANDLERS, Cast, diamond, told

NOBODY = 999_999


@pytest.fixture
def connection(shared: Engine) -> Iterator[Connection]:
    with shared.connect() as open_connection:
        yield open_connection


@pytest.fixture
def cast(connection: Connection, manual_clock: ManualClock) -> Cast:
    return told(connection, manual_clock)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (TaskFilter(), ["half_way", "failed", "complete"]),
        (TaskFilter(limit=1), ["half_way"]),
        (TaskFilter(state="complete"), ["complete"]),
        (TaskFilter(tag="vip"), ["complete"]),
        (TaskFilter(tag="vi"), []),
        (TaskFilter(identity="ORD-2"), ["failed"]),
        (TaskFilter(namespace="orders", name="fulfil_order"), ["half_way", "failed", "complete"]),
        (TaskFilter(name="fulfil_order", version="2.0.0"), []),
        (TaskFilter(namespace="order"), []),
    ],
)
def test_tasks_are_listed_newest_first_by_every_filter(
    cast: Cast, connection: Connection, wanted: TaskFilter, found: list[str]
) -> None:
    expected = [getattr(cast, name) for name in found]
    assert [row["task_id"] for row in tasks.listed(connection, wanted)] == expected


def test_a_page_of_tasks_goes_on_behind_the_last_one(cast: Cast, connection: Connection) -> None:
    page = tasks.listed(connection, TaskFilter(before_task_id=cast.half_way))
    assert [row["task_id"] for row in page] == [cast.failed, cast.complete]
    assert [row["steps_done"] for row in page] == [2, 4]


def test_a_task_is_found_by_its_id_or_its_key(cast: Cast, connection: Connection) -> None:
    assert tasks.identify(connection, str(cast.failed)) == [cast.failed]
    assert tasks.identify(connection, "ORD-1") == [cast.complete]
    for word in ("ORD", str(NOBODY), "9" * 40, "", "\u0663"):
        assert tasks.identify(connection, word) == []


def test_a_key_of_two_workflows_means_two_tasks(cast: Cast, connection: Connection) -> None:
    other = cast.story.task(cast.story.publish(diamond("other")), identity="ORD-1")
    assert tasks.identify(connection, "ORD-1") == [other, cast.complete]


def test_only_keys_that_callers_gave_are_suggested(cast: Cast, connection: Connection) -> None:
    assert tasks.recent_identities(connection) == ["ORD-2", "ORD-1"]


def test_a_task_is_shown_with_steps_edges_and_counts(cast: Cast, connection: Connection) -> None:
    shown = tasks.show(connection, cast.half_way)
    assert shown is not None
    assert shown["counts"] == {
        "complete": 1, "waiting_for_retry": 1, "in_progress": 1, "pending": 1,
    }  # fmt: skip
    assert tasks.parents_of(shown)["ship"] == ("reserve", "charge")
    assert {"from": "validate", "to": "charge"} in shown["edges"]
    charge = next(step for step in shown["steps"] if step["name"] == "charge")
    assert (charge["worker"], charge["handler_class"]) == ("anna", "orders.charge")
    assert tasks.show(connection, TaskId(NOBODY)) is None


def test_what_explains_a_task_knows_its_daemon_and_its_workers(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    shown = tasks.show(connection, cast.half_way)
    assert shown is not None
    now = manual_clock.now()
    seen = standing(connection, shown, now=now)
    assert seen.core_alive
    assert [session.worker for session in seen.sessions] == ["anna"]
    reserve = next(step for step in seen.steps if step.name == "reserve")
    assert reserve.error == "Timeout: no answer"
    assert reserve.next_attempt_at == now + timedelta(seconds=30)
    assert not standing(connection, shown, now=manual_clock.advance(7_200)).core_alive


def test_errors_of_any_shape_become_text() -> None:
    assert error_text({"error_type": "Timeout", "message": "late"}) == "Timeout: late"
    assert [error_text(each) for each in (None, "broken", {"other": 1})] == ["", "broken", ""]


def test_a_step_is_shown_with_everything_that_happened_to_it(
    cast: Cast, connection: Connection
) -> None:
    step_id = cast.story.step(cast.failed, "charge")
    assert steps.find_by_name(connection, cast.failed, "charge") == step_id
    assert steps.names(connection, cast.failed) == ["validate", "reserve", "charge", "ship"]
    shown = steps.show(connection, step_id)
    assert shown is not None
    assert [each["to_state"] for each in shown["transitions"]] == [
        "pending",
        "in_progress",
        "error",
    ]
    assert [each["attempt"] for each in shown["batches"]] == [1]
    assert [each["verdict"] for each in shown["messages"]] == ["applied"]
    assert [each["reason"] for each in shown["dead_letters"]] == ["permanent_error"]
    assert [each["name"] for each in shown["parents"]] == ["validate"]
    assert [each["name"] for each in shown["children"]] == ["ship"]
    assert shown["error"]["message"] == "card declined"
    assert steps.show(connection, StepId(NOBODY)) is None


def test_batches_are_listed_by_every_filter(cast: Cast, connection: Connection) -> None:
    def found(wanted: BatchFilter) -> list[int]:
        return [row["batch_id"] for row in batches.listed(connection, wanted)]

    everything = found(BatchFilter())
    assert everything == sorted(everything, reverse=True)
    assert found(BatchFilter(state="in_progress")) == [cast.open_batch.batch_id]
    assert len(found(BatchFilter(reconciliation="discrepancy"))) == 1
    assert found(BatchFilter(worker="bob")) == []
    assert found(BatchFilter(worker="anna")) == everything
    assert len(found(BatchFilter(task_id=cast.complete))) == 3
    assert found(BatchFilter(before_batch_id=everything[1], limit=1)) == [everything[2]]


def test_a_batch_is_found_by_its_id_or_the_beginning_of_its_uuid(
    cast: Cast, connection: Connection
) -> None:
    batch = cast.open_batch
    both = (batch.batch_id, batch.batch_uuid)
    assert batches.identify(connection, str(batch.batch_id)) == [both]
    assert batches.identify(connection, batch.batch_uuid.upper()) == [both]
    assert batches.identify(connection, batch.batch_uuid[:23]) == [both]
    assert len(batches.identify(connection, batch.batch_uuid[:2])) > 1
    for word in ("", "xyz", batch.batch_uuid + "0", str(NOBODY)):
        assert batches.identify(connection, word) == []


def test_a_batch_is_shown_with_both_accounts_and_what_differs(
    cast: Cast, connection: Connection
) -> None:
    (row,) = batches.listed(connection, BatchFilter(reconciliation="discrepancy"))
    shown = batches.show(connection, row["batch_id"])
    assert shown is not None
    assert [each["name"] for each in shown["steps"]] == ["reserve", "charge"]
    assert [each["status"] for each in shown["partial_results"]] == ["completed", "failed"]
    (completion,) = shown["completions"]
    assert (completion["total_steps"], completion["failed_steps"]) == (2, 1)
    (difference,) = shown["discrepancies"]
    assert difference["kind"] == "counts_differ"
    assert [each["most_recent"] for each in shown["transitions"]] == [False, False, True]
    assert batches.show(connection, BatchId(NOBODY)) is None


def test_the_tail_of_the_ledger_ends_with_the_newest(cast: Cast, connection: Connection) -> None:
    rows = ledger.tail(connection, LedgerFilter(limit=2))
    assert [row["verdict"] for row in rows] == ["noted", "applied"]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    behind = LedgerFilter(after_id=rows[0]["id"])
    assert [row["id"] for row in ledger.tail(connection, behind)] == [rows[1]["id"]]


def test_the_ledger_is_filtered_by_batch_task_type_and_verdict(
    cast: Cast, connection: Connection
) -> None:
    def found(wanted: LedgerFilter) -> list[tuple[str, str | None]]:
        return [(row["message_type"], row["step"]) for row in ledger.tail(connection, wanted)]

    of_batch = found(LedgerFilter(batch_id=cast.open_batch.batch_id))
    assert of_batch == [("partial_result", "charge"), ("partial_result", "reserve")]
    assert found(LedgerFilter(verdict="noted")) == [("partial_result", "charge")]
    of_task = found(LedgerFilter(task_id=cast.complete))
    assert [name for _, name in of_task if name] == ["validate", "reserve", "charge", "ship"]
    assert [kind for kind, name in of_task if name is None] == ["batch_completion"] * 3
    of_kind = found(LedgerFilter(message_type="batch_completion", task_id=cast.failed))
    assert len(of_kind) == 2


def test_a_ledger_row_has_its_message_as_it_came(cast: Cast, connection: Connection) -> None:
    (row,) = ledger.tail(connection, LedgerFilter(verdict="noted"))
    shown = ledger.show(connection, row["id"])
    assert shown is not None
    assert shown["raw_text"].startswith('{"status":  "in_progress", "step_id": ')
    assert ledger.show(connection, NOBODY) is None


def test_workers_are_listed_with_session_load_and_what_they_can_run(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    (anna,) = workers.listed(connection, now=manual_clock.now())
    assert (anna["worker_name"], anna["connected"], anna["credit"]) == ("anna", True, 4)
    assert anna["handlers"] == list(HANDLERS)
    assert anna["supported_tasks"] == ["orders/fulfil_order@1.0.0"]
    (silent,) = workers.listed(connection, now=manual_clock.advance(7_200))
    assert not silent["connected"]
    assert live_sessions(connection, now=manual_clock.now()) == ()


def test_a_worker_has_a_row_per_live_session_and_else_its_last_one(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    connection.execute(text("UPDATE tasker_worker_registrations SET status = 'disconnected'"))
    connection.execute(text("UPDATE tasker_worker_registrations SET session_id = 'former'"))
    now = manual_clock.now()
    assert [each["session_id"] for each in workers.listed(connection, now=now)] == ["former"]
    cast.story.worker("anna", HANDLERS)
    assert [each["session_id"] for each in workers.listed(connection, now=now)] == ["s-anna"]


def test_workflows_are_listed_newest_version_first_with_their_tasks(
    cast: Cast, connection: Connection
) -> None:
    newer = cast.story.publish(diamond(version="1.1.0"))
    rows = workflows.listed(connection)
    assert [row["workflow"] for row in rows] == [
        "orders/fulfil_order@1.1.0",
        "orders/fulfil_order@1.0.0",
    ]
    assert [(row["tasks"], row["open_tasks"], row["failed_tasks"]) for row in rows] == [
        (0, 0, 0),
        (3, 1, 1),
    ]
    assert workflows.listed(connection, namespace="shop") == []
    found = workflows.find(connection, namespace=None, name="fulfil_order", version=None)
    assert found == [newer]
    older = workflows.find(connection, namespace="orders", name="fulfil_order", version="1.0.0")
    assert older == [cast.named_task_id]


def test_a_published_workflow_is_shown_as_the_template_it_was(
    cast: Cast, connection: Connection
) -> None:
    shown = workflows.show(connection, cast.named_task_id)
    assert shown.template == diamond()
    assert shown.tasks == {"complete": 1, "error": 1, "in_progress": 1}


def test_partitions_are_counted_up_to_the_first_gap(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    now = manual_clock.now()
    assert set(health.weeks_ahead(connection, now=now).values()) == {health.WEEKS_LOOKED_AT}
    later = now + timedelta(weeks=health.WEEKS_LOOKED_AT - 1)
    assert set(health.weeks_ahead(connection, now=later).values()) == {1}
    assert set(health.weeks_ahead(connection, now=now + timedelta(weeks=600)).values()) == {0}


def test_the_server_tells_its_settings(connection: Connection) -> None:
    facts = health.server_facts(connection)
    assert facts.version >= 150_000
    assert not facts.read_only


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (StepFilter(state=StepState.ERROR), 1),
        (StepFilter(handler="orders.nobody"), 0),
        (StepFilter(namespace="orders"), 12),
        (StepFilter(namespace="order"), 0),
    ],
)
def test_steps_are_listed_newest_first_by_every_filter(
    cast: Cast, connection: Connection, wanted: StepFilter, found: int
) -> None:
    listed, more = steps.listed(connection, wanted)
    ids = [each["step_id"] for each in listed]
    assert (len(ids), ids, more) == (found, sorted(ids, reverse=True), None)
    of_task, _ = steps.listed(connection, replace(wanted, task_ids=[cast.failed]))
    assert {each["task_id"] for each in of_task} <= {cast.failed}


@pytest.mark.usefixtures("cast")
def test_pages_of_steps_hold_each_one_once_whatever_is_looked_at(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [each["step_id"] for each in steps.listed(connection, StepFilter())[0]]
    monkeypatch.setattr(steps, "LOOKED_AT_MAX", 3)
    found: list[int] = []
    more: int | None = max(whole) + 1
    while more is not None:
        page, more = steps.listed(connection, StepFilter(limit=2, before_step_id=more))
        found += [each["step_id"] for each in page]
    assert found == whole
