"""The schema: migrations and mapped classes agree, and there is a way back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tasker_zmq.errors import SchemaVersionError
from tasker_zmq.store import schema
from tasker_zmq.store.tables import Base


def tables(url: str) -> set[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(inspect(connection).get_table_names())


def test_migrations_and_mapped_classes_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        assert schema.drift(connection) == []
        assert schema.version(connection).current


def test_every_mapped_table_is_made_and_a_downgrade_leaves_nothing(
    empty_database_url: str,
) -> None:
    schema.upgrade(empty_database_url)
    assert set(Base.metadata.tables) <= tables(empty_database_url)
    schema.downgrade(empty_database_url, revision="base")
    assert tables(empty_database_url) == {"alembic_version"}
    schema.upgrade(empty_database_url)
    schema.upgrade(empty_database_url)
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def test_two_that_upgrade_at_once_do_not_meet(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(schema.upgrade, empty_database_url) for _ in range(2)]:
            done.result()
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def test_a_schema_that_is_not_the_known_one_is_refused_with_the_way_out(
    empty_database_url: str, engine: Engine
) -> None:
    nothing = create_engine(empty_database_url, poolclass=NullPool)
    way_out = pytest.raises(SchemaVersionError, match="run `tasker-zmq db upgrade`")
    with nothing.connect() as connection, way_out:
        schema.refuse_unknown(connection)
    with engine.connect() as connection:
        schema.refuse_unknown(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        with pytest.raises(SchemaVersionError, match="is 0001, older than"):
            schema.refuse_unknown(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaVersionError, match="run the newer tasker-zmq"):
            schema.refuse_unknown(connection)


def test_the_ledger_refuses_to_be_changed(engine: Engine) -> None:
    ledger = "tasker_step_execution_batch_received_results"
    with engine.connect() as connection:
        connection.execute(
            text(
                f"INSERT INTO {ledger} (received_at, message_type, core_id, verdict, processed_at) "  # noqa: S608
                "VALUES (now(), 'undecodable', 'core-1', 'rejected', now())"
            )
        )
        for statement in (f"UPDATE {ledger} SET verdict = 'applied'", f"DELETE FROM {ledger}"):  # noqa: S608
            savepoint = connection.begin_nested()
            with pytest.raises(DBAPIError, match="append-only"):
                connection.execute(text(statement))
            savepoint.rollback()


def test_partitions_are_made_once(engine: Engine) -> None:
    with engine.connect() as connection:
        moment = connection.execute(text("SELECT now() + interval '1 year'")).scalar_one()
        made = schema.ensure_partitions(connection, moment)
        assert made == len(schema.PARTITIONED) * (schema.WEEKS_AHEAD + 2)
        assert schema.ensure_partitions(connection, moment) == 0


def test_tables_that_are_updated_all_the_time_are_vacuumed_by_how_many_rows_died(
    engine: Engine,
) -> None:
    found = text(
        "SELECT relname, array_to_string(reloptions, ' ') AS options FROM pg_class "
        "WHERE array_to_string(reloptions, ' ') LIKE '%autovacuum_vacuum_scale_factor=0 %'"
    )
    with engine.connect() as connection:
        told = {row.relname: row.options for row in connection.execute(found)}
    thresholds = {
        name: int(options.partition("autovacuum_vacuum_threshold=")[2].split()[0])
        for name, options in told.items()
    }
    assert {name for name, rows in thresholds.items() if rows == 1_000} == {
        "tasker_tasks",
        "tasker_workflow_steps",
        "tasker_step_execution_batches",
        "tasker_step_execution_batch_transitions",
    }
    assert {name for name, rows in thresholds.items() if rows == 100} == {
        "tasker_cores",
        "tasker_worker_registrations",
        "tasker_worker_transport_availability",
        "tasker_distributed_processing_locks",
    }
