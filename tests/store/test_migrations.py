"""The way to the schema and back, by whoever goes it; the ledger's guard and its partitions."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from tasker_zmq.errors import SchemaVersionError
from tasker_zmq.store import schema
from tasker_zmq.testing import ManualClock

ROOT = Path(__file__).resolve().parents[2]
LEDGER = "tasker_step_execution_batch_received_results"
WEEK = timedelta(days=7)


def objects(url: str) -> set[str]:
    """Tables, views, indexes, functions and triggers of ours; partitions come and go."""
    query = (
        "SELECT CAST(relkind AS text) || ' ' || relname FROM pg_class WHERE relname ~ 'tasker' "
        "AND NOT relispartition UNION ALL SELECT 'function ' || proname FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace UNION ALL "
        "SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0"
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return {row[0] for row in connection.execute(text(query))}


def test_a_downgrade_and_an_upgrade_lead_back_to_the_same_schema(database_url: str) -> None:
    before = objects(database_url)
    assert len(before) > 50
    schema.downgrade(database_url, revision="base")
    assert objects(database_url) == set()
    schema.upgrade(database_url)
    assert objects(database_url) == before
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        assert schema.drift(connection) == []


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TASKER_DATABASE_URL": url},
        timeout=60,
    )


@pytest.mark.slow
def test_alembic_upgrades_by_itself_and_finds_nothing_to_add(empty_database_url: str) -> None:
    done = alembic(empty_database_url, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with engine.connect() as connection:
        assert schema.version(connection).current
    checked = alembic(empty_database_url, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    back = alembic(empty_database_url, "downgrade", "base")
    assert back.returncode == 0, back.stderr
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


@pytest.mark.slow
def test_two_processes_that_upgrade_at_once_both_succeed(empty_database_url: str) -> None:
    program = f"from tasker_zmq.store import schema; schema.upgrade({empty_database_url!r})"
    both = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with engine.connect() as connection:
        assert schema.version(connection).current


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("0001", "the database's schema is 0001, older than .*; run `tasker-zmq db upgrade`"),
        ("9999", "9999, which this release does not know .*; run the newer tasker-zmq"),
    ],
)
def test_another_revision_is_refused_with_the_way_out(
    engine: Engine, found: str, said: str
) -> None:
    with engine.connect() as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = :found"), {"found": found}
        )
        with pytest.raises(SchemaVersionError, match=said):
            schema.refuse_unknown(connection)


def test_a_database_without_our_schema_is_refused_with_the_way_out(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with (
        engine.connect() as connection,
        pytest.raises(SchemaVersionError, match=r"has no tasker-zmq schema .* db upgrade"),
    ):
        schema.refuse_unknown(connection)


def test_the_names_of_the_migrations_begin_with_the_revisions_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_folder()))
    newest_first = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert schema.known_revisions() == tuple(reversed(newest_first))
    assert schema.wanted_revision() == newest_first[0]


def test_the_known_revision_is_let_in(engine: Engine) -> None:
    with engine.connect() as connection:
        schema.refuse_unknown(connection)


def receive(connection: Connection, at: datetime) -> None:
    connection.execute(
        text(
            f"INSERT INTO {LEDGER} (received_at, message_type, core_id, verdict, processed_at) "  # noqa: S608
            "VALUES (:at, 'undecodable', 'core-1', 'rejected', :at)"
        ),
        {"at": at},
    )


@pytest.mark.parametrize("deed", ["UPDATE {} SET verdict = 'applied'", "DELETE FROM {}"])
def test_the_ledger_refuses_to_be_changed(
    engine: Engine, manual_clock: ManualClock, deed: str
) -> None:
    with engine.connect() as connection:
        schema.ensure_partitions(connection, manual_clock.now())
        receive(connection, manual_clock.now())
        with pytest.raises(IntegrityError, match="append-only"):
            connection.execute(text(deed.format(LEDGER)))


def test_a_partition_refuses_to_be_changed_too(engine: Engine, manual_clock: ManualClock) -> None:
    with engine.connect() as connection:
        schema.ensure_partitions(connection, manual_clock.now())
        receive(connection, manual_clock.now())
        query = text(f"SELECT tableoid::regclass::text FROM {LEDGER}")  # noqa: S608
        partition = connection.execute(query).scalar_one()
        with pytest.raises(IntegrityError, match="append-only"):
            connection.execute(text(f"DELETE FROM {partition}"))  # noqa: S608


def test_partitions_reach_four_weeks_ahead_and_are_made_once(
    engine: Engine, manual_clock: ManualClock
) -> None:
    now = manual_clock.now()
    with engine.connect() as connection:
        assert schema.ensure_partitions(connection, now) == 2 * 6
        assert schema.ensure_partitions(connection, now) == 0
        assert schema.ensure_partitions(connection, now + WEEK) == 2
        for weeks in range(-1, 5):
            receive(connection, now + weeks * WEEK)


def test_a_message_without_a_partition_is_refused_not_lost_silently(
    engine: Engine, manual_clock: ManualClock
) -> None:
    with engine.connect() as connection:
        schema.ensure_partitions(connection, manual_clock.now())
        with pytest.raises(DBAPIError, match="no partition of relation"):
            receive(connection, manual_clock.now() + 6 * WEEK)


def test_partitions_follow_each_other_without_a_gap_whatever_the_session_s_time_zone(
    empty_database_url: str,
) -> None:
    schema.upgrade(empty_database_url)
    engine = create_engine(empty_database_url, poolclass=NullPool)
    # Clocks change on 29 March and 25 October 2026 there; zones take turns, as processes may.
    zones = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Tokyo")
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    with engine.begin() as connection:
        for number in range(52):
            connection.execute(text(f"SET timezone = '{zones[number % len(zones)]}'"))
            schema.ensure_partitions(connection, monday + number * WEEK)
        for number in range(52):
            receive(connection, monday + number * WEEK)
            receive(connection, monday + (number + 1) * WEEK - timedelta(microseconds=1))
        query = text(f"SELECT count(*) FROM {LEDGER} GROUP BY tableoid")  # noqa: S608
        assert connection.execute(query).scalars().all() == [2] * 52


def test_a_second_partition_of_one_week_is_never_asked_for_on_sunday_night(engine: Engine) -> None:
    sunday_night = datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC)
    with engine.connect() as connection:
        schema.ensure_partitions(connection, sunday_night)
        assert schema.ensure_partitions(connection, sunday_night) == 0
        receive(connection, sunday_night)
        receive(connection, sunday_night + timedelta(microseconds=1))
