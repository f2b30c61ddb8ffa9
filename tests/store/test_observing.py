"""Questions that are answered beside the engine, about a history that is known."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.clock import uuid7_floor
from tasker_zmq.commands.analysing import query_analytics
from tasker_zmq.commands.context import Observing
from tasker_zmq.commands.diagnosing import diagnose, wants_rows
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.analytics import AnalyticsKind, QueryAnalytics, TimeRange
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.store.connection import ConnectionLimits, create
from tasker_zmq.store.reads import analytics
from tasker_zmq.store.reads.analytics import Window
from tasker_zmq.testing import ManualClock
from tests.store.seeding import Cast, diamond, told

WORKFLOW = "orders/fulfil_order@1.0.0"


@pytest.fixture
def connection(shared: Engine) -> Iterator[Connection]:
    with shared.connect() as open_connection:
        yield open_connection


@pytest.fixture
def cast(connection: Connection, manual_clock: ManualClock) -> Cast:
    """Half a minute ago, as the tests look back from."""
    made = told(connection, manual_clock)
    manual_clock.advance(30)
    return made


SNAPSHOT = {"status": "ok", "database": "ok", "inbox": 3}


def observing(cast: Cast, **more: Any) -> Observing:
    """What the daemon of the story would look with."""

    @contextmanager
    def connect() -> Iterator[Connection]:
        yield cast.story.connection

    clock = cast.story.clock
    known = {"connect": connect, "snapshot": SNAPSHOT, **more}
    return Observing(now=clock.now(), monotonic=clock.monotonic, **known)


def ask(cast: Cast, kind: AnalyticsKind, **more: Any) -> Any:
    """The answer as the JSON values that a client sees."""
    answer = query_analytics(observing(cast), QueryAnalytics(kind=kind, **more))
    assert answer.__struct_config__.tag == kind
    return msgspec.json.decode(msgspec.json.encode(answer))


def row(answer: Mapping[str, Any]) -> dict[str, Any]:
    (only,) = answer["rows"]
    return dict(only)


def audit(connection: Connection, cast: Cast, **values: Any) -> None:
    connection.execute(
        text(
            "INSERT INTO tasker_worker_command_audit (created_at, core_id, command_type, "
            "direction, command_id, outcome, execution_time_ms) "
            "VALUES (:at, 'core-1', :type, :direction, 'c', :outcome, :ms)"
        ),
        {"at": cast.story.now - timedelta(seconds=5), "direction": "received", **values},
    )


def test_tasks_are_counted_by_workflow_with_what_is_open(cast: Cast) -> None:
    found = row(ask(cast, AnalyticsKind.TASK_PERFORMANCE))
    assert (found["workflow"], found["ended"], found["open"]) == (WORKFLOW, 2, 1)
    assert (found["complete"], found["error"], found["cancelled"]) == (1, 1, 0)
    assert found["duration_ms_p50"] == found["duration_ms_max"] == 0
    assert found["per_minute"] == 0.03


def test_what_ended_before_the_range_is_left_out(cast: Cast) -> None:
    found = row(ask(cast, AnalyticsKind.TASK_PERFORMANCE, last_seconds=20))
    assert (found["ended"], found["open"], found["duration_ms_p50"]) == (0, 1, None)
    earlier = TimeRange(until=cast.story.now - timedelta(seconds=20))
    found = row(ask(cast, AnalyticsKind.TASK_PERFORMANCE, time_range=earlier))
    assert found["ended"] == 2


def test_how_long_tasks_took_is_told_by_percentiles(
    cast: Cast, connection: Connection, manual_clock: ManualClock
) -> None:
    task = cast.story.task(cast.named_task_id)
    manual_clock.advance(4)
    cast.story.run_task(task, cast.worker)
    manual_clock.advance(1)
    found = row(ask(cast, AnalyticsKind.TASK_PERFORMANCE, last_seconds=3))
    assert (found["ended"], found["duration_ms_p95"]) == (1, 4_000)


@pytest.mark.parametrize("kind", [AnalyticsKind.TASK_PERFORMANCE, "WorkerTaskCompatibility"])
def test_workflows_are_filtered_by_namespace_and_name(cast: Cast, kind: AnalyticsKind) -> None:
    kind = AnalyticsKind(kind)
    assert row(ask(cast, kind, namespace="orders", name="fulfil_order"))["workflow"] == WORKFLOW
    assert ask(cast, kind, namespace="other")["rows"] == []
    assert ask(cast, kind, name="other")["rows"] == []


def test_a_workers_batches_steps_and_their_times_are_told(cast: Cast) -> None:
    found = row(ask(cast, AnalyticsKind.WORKER_EFFICIENCY))
    assert (found["worker"], found["sessions"]) == ("anna", 1)
    assert (found["batches"], found["steps"], found["open"]) == (7, 10, 1)
    assert (found["completed"], found["failed"]) == (7, 2)
    assert (found["silent"], found["sent_again"]) == (0, 0)
    assert found["step_ms_p50"] == found["step_ms_p95"] == 1.5
    assert ask(cast, AnalyticsKind.WORKER_EFFICIENCY, worker="bert")["rows"] == []
    assert ask(cast, AnalyticsKind.WORKER_EFFICIENCY, last_seconds=20)["rows"] == []


def test_load_is_told_by_session_with_its_share(cast: Cast, connection: Connection) -> None:
    cast.story.worker("bert", ("orders.ship",))
    connection.execute(
        text("UPDATE tasker_worker_registrations SET current_load = 3 WHERE session_id = 's-anna'")
    )
    answer = ask(cast, AnalyticsKind.WORKER_LOAD_DISTRIBUTION)
    anna, bert = answer["rows"]
    assert (anna["worker"], anna["current_load"], anna["utilisation"]) == ("anna", 3, 0.75)
    assert (anna["steps"], anna["share"], bert["share"]) == (10, 1, 0)
    assert answer["imbalance"] == 2


def test_sessions_of_a_dead_core_carry_no_load(cast: Cast, manual_clock: ManualClock) -> None:
    manual_clock.advance(7_200)
    assert ask(cast, AnalyticsKind.WORKER_LOAD_DISTRIBUTION)["rows"] == []
    assert ask(cast, AnalyticsKind.SYSTEM_HEALTH)["sessions"] == {}
    assert row(ask(cast, AnalyticsKind.WORKER_TASK_COMPATIBILITY))["whole"] == []


def test_who_can_run_a_workflow_is_told_with_what_is_missing(cast: Cast) -> None:
    found = row(ask(cast, AnalyticsKind.WORKER_TASK_COMPATIBILITY))
    assert (found["handlers"], found["missing"]) == (4, [])
    assert found["whole"] == found["declared_by"] == ["anna"]
    cast.story.publish(diamond("returns"))
    cast.story.worker("bert", ("orders.ship",))
    first = ask(cast, AnalyticsKind.WORKER_TASK_COMPATIBILITY, name="returns")["rows"][0]
    assert (first["whole"], first["in_part"], first["declared_by"]) == (["anna"], ["bert"], [])


def test_a_handler_that_nobody_has_is_named(cast: Cast, connection: Connection) -> None:
    connection.execute(
        text(
            "UPDATE tasker_worker_registrations SET handlers = handlers - 'orders.charge' "
            "WHERE session_id = 's-anna'"
        )
    )
    found = row(ask(cast, AnalyticsKind.WORKER_TASK_COMPATIBILITY))
    assert (found["missing"], found["whole"]) == (["orders.charge"], [])
    assert found["in_part"] == ["anna"]


def test_commands_are_timed_and_counted_from_their_audit(
    cast: Cast, connection: Connection
) -> None:
    for milliseconds in (1.0, 2.0, 9.0):
        audit(connection, cast, type="InitializeTask", outcome="success", ms=milliseconds)
    audit(connection, cast, type="GetTask", outcome="not_found", ms=None)
    found = row(ask(cast, AnalyticsKind.COMMAND_LATENCY))
    assert (found["command_type"], found["count"]) == ("InitializeTask", 3)
    assert (found["ms_p50"], found["ms_max"]) == (2, 9)
    first, second = ask(cast, AnalyticsKind.COMMAND_AUDIT_SUMMARY)["rows"]
    assert (first["command_type"], first["outcome"], first["count"]) == (
        "InitializeTask", "success", 3,
    )  # fmt: skip
    assert (second["command_type"], second["outcome"], second["cores"]) == (
        "GetTask", "not_found", 1,
    )  # fmt: skip
    only = row(ask(cast, AnalyticsKind.COMMAND_AUDIT_SUMMARY, command_type="GetTask"))
    assert only["count"] == 1
    assert ask(cast, AnalyticsKind.COMMAND_LATENCY, last_seconds=1)["rows"] == []


def test_the_system_is_told_in_counts(cast: Cast) -> None:
    found = ask(cast, AnalyticsKind.SYSTEM_HEALTH)
    assert found["tasks_open"] == {"in_progress": 1}
    assert found["tasks_ended"] == {"complete": 1, "error": 1}
    assert sum(found["batches_made"].values()) == 7
    assert sum(found["batches_open"].values()) == 1
    assert (found["steps_waiting_for_retry"], found["dead_letters_open"]) == (1, 1)
    assert found["discrepancies"] == 1
    assert found["sessions"] == {"registered": 1}
    assert found["verdicts"]["applied"] >= 15
    assert found["cores"] == [
        {"core_id": "core-1", "alive": True, "draining": False, "tasks_open": 1}
    ]
    assert not found["truncated"]


def test_more_rows_than_are_read_are_said(cast: Cast, connection: Connection) -> None:
    window = Window(
        since=cast.story.now - timedelta(hours=1),
        until=cast.story.now,
        now=cast.story.now,
        rows_max=2,
    )
    for read in (analytics.task_performance, analytics.worker_efficiency):
        found = read(connection, window)
        assert found.truncated
        assert "rows_read" not in found.rows[0]
    counts, truncated = analytics.system_health(connection, window)
    assert truncated
    assert sum(counts["verdicts"].values()) == 2


def test_the_floor_of_a_moment_is_not_above_what_is_made_then(manual_clock: ManualClock) -> None:
    moment = manual_clock.now()
    assert uuid7_floor(moment)[:13] == uuid7_floor(moment + timedelta(microseconds=900))[:13]
    assert uuid7_floor(moment) < uuid7_floor(moment + timedelta(milliseconds=1))


def test_a_detailed_diagnosis_adds_the_backlog_and_the_leases(cast: Cast) -> None:
    told = diagnose(observing(cast), HealthCheck(diagnostic_level="detailed"))
    assert (told["status"], told["inbox"], told["level"]) == ("ok", 3, "detailed")
    assert told["tasks_open"] == {"in_progress": 1}
    assert told["batches_open"] == {"in_progress": 1}
    assert told["sessions_by_status"] == {"registered": 1}
    assert (told["steps_waiting_for_retry"], told["dead_letters_open"]) == (1, 1)
    assert told["oldest_ready_step_seconds"] is None
    assert told["database_ms"] == 0
    (core,) = told["cores"]
    assert (core["core_id"], core["lease_seconds_left"]) == ("core-1", 3_570)
    assert "workers" not in told


def test_how_long_the_oldest_ready_step_has_waited_is_told(
    cast: Cast, manual_clock: ManualClock
) -> None:
    cast.story.task(cast.named_task_id)
    manual_clock.advance(7)
    cast.story.task(cast.named_task_id)
    told = diagnose(observing(cast), HealthCheck(diagnostic_level="detailed"))
    assert told["oldest_ready_step_seconds"] == 7
    wishes = HealthCheck(include_ready_task_count=True)
    assert diagnose(observing(cast), wishes)["ready_tasks"] == 2


def test_a_full_diagnosis_adds_workers_ready_tasks_and_partitions(cast: Cast) -> None:
    told = diagnose(observing(cast), HealthCheck(diagnostic_level="full"))
    assert [worker["worker"] for worker in told["workers"]] == ["anna"]
    assert told["ready_tasks"] == 0
    assert set(told["partition_weeks_ahead"].values()) == {5}
    assert "limited_to" not in told
    wishes = HealthCheck(include_worker_status=True)
    assert set(diagnose(observing(cast), wishes)) == {*SNAPSHOT, "level", "workers"}


def test_without_its_database_a_diagnosis_is_the_snapshot(cast: Cast) -> None:
    nowhere = create(
        "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
        purpose="tests",
        limits=ConnectionLimits(),
    )
    looking = observing(cast, connect=nowhere.connect)
    told = diagnose(looking, HealthCheck(diagnostic_level="full"))
    assert (told["inbox"], "the database is away" in told["limited_to"]) == (3, True)

    def never() -> Any:
        raise AssertionError("it asked a database that is known to be away")

    away = observing(cast, connect=never, snapshot={**SNAPSHOT, "database": "away"})
    told = diagnose(away, HealthCheck(diagnostic_level="full"))
    assert told["limited_to"] == "the snapshot: the database is away"


def test_a_level_that_nobody_knows_is_refused_with_those_that_there_are(cast: Cast) -> None:
    request = HealthCheck(diagnostic_level="deep")
    assert wants_rows(request)
    with pytest.raises(CommandRefusedError) as raised:
        diagnose(observing(cast), request)
    assert raised.value.hint == "there are basic, detailed, full"
    assert not wants_rows(HealthCheck())
