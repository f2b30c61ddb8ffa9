"""`tasker-zmq db` and `doctor`: the schema from nothing to the newest and back, and what is ill."""

import json
from pathlib import Path
from typing import Any

import pytest
import zmq
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq.store import schema
from tests.unit.shell import OwnDaemon, tasker

NOBODY = "tcp://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", NOBODY)
    monkeypatch.setenv("TASKER_ENDPOINTS_HEALTH", "tcp://127.0.0.1:2")


def parsed(*arguments: str, exit_code: int = 0) -> Any:
    result = tasker(*arguments, "-o", "json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def change(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_the_schema_goes_up_and_down_and_up_again(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", empty_database_url)
    newest = schema.wanted_revision()
    assert parsed("db", "current")["found"] is None
    reading = tasker("tasks", "list")
    assert (reading.exit_code, "run `tasker-zmq db upgrade`" in reading.stderr) == (1, True)
    assert parsed("db", "upgrade")["to"] == newest
    assert parsed("db", "upgrade")["from"] == newest
    assert parsed("db", "check")["differences"] == []
    assert parsed("tasks", "list") == []
    assert parsed("db", "downgrade", "0001", "--yes")["to"] == "0001"
    older = tasker("tasks", "list")
    assert (older.exit_code, f"older than {newest}" in older.stderr) == (1, True)
    assert tasker("db", "check").exit_code == 1
    assert parsed("db", "downgrade", "base", "--yes")["to"] is None


def test_a_downgrade_asks_first_and_says_what_is_lost(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    refused = tasker("db", "downgrade", "base", given="n\n")
    assert "removes 0 tasks and everything about them" in refused.output
    assert refused.exit_code != 0
    nobody = tasker("db", "downgrade", "base", given="")
    assert nobody.exit_code == 1
    assert parsed("db", "current")["current"] is True


def test_an_unknown_revision_is_said(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    for arguments in (("upgrade", "nonsense"), ("downgrade", "nonsense", "--yes")):
        result = tasker("db", *arguments)
        assert (result.exit_code, "no way leads to revision" in result.stderr) == (3, True)


def test_a_schema_that_was_changed_by_hand_is_found(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    change(database_url, "ALTER TABLE tasker_tasks ADD COLUMN mine integer")
    result = tasker("db", "check")
    assert (result.exit_code, "mine" in result.stdout) == (1, True)


def test_a_schema_from_the_future_is_not_touched(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    change(database_url, "UPDATE alembic_version SET version_num = '9999'")
    result = tasker("tasks", "list")
    assert (result.exit_code, "does not know" in result.stderr) == (1, True)


def test_a_database_that_does_not_answer_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", "postgresql://me:sesame@127.0.0.1:1/nowhere")
    for arguments in (("tasks", "list"), ("db", "current"), ("db", "upgrade"), ("doctor",)):
        result = tasker(*arguments)
        assert result.exit_code == (1 if arguments == ("doctor",) else 4), arguments
        assert "does not answer" in result.output
        assert "sesame" not in result.output


def test_a_read_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKER_DATABASE_URL", raising=False)
    monkeypatch.setenv("TASKER_DATABASE_DATA_DIR", str(tmp_path / "postgres"))
    result = tasker("tasks", "list")
    assert (result.exit_code, "there is no database yet" in result.stderr) == (4, True)
    assert not (tmp_path / "postgres").exists()


def test_doctor_tells_what_is_well_and_the_fix_of_what_is_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    health = OwnDaemon(lambda _command: {"status": "ok"}, kind=zmq.REP)
    with health as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_HEALTH", daemon.endpoint)
        checks = {each["name"]: each for each in parsed("doctor", exit_code=1)}
    assert list(checks) == [
        "database", "durability", "clocks", "schema", "partitions", "daemons", "workers",
        "commands", "health",
    ]  # fmt: skip
    for name in ("database", "clocks", "schema", "partitions", "health"):
        assert checks[name]["well"], checks[name]
    assert checks["commands"]["fix"].startswith("start one with `tasker-zmq daemon`")


def test_doctor_looks_no_further_than_a_schema_it_does_not_know(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", empty_database_url)
    health = OwnDaemon(lambda _command: {"status": "ok"}, kind=zmq.REP)
    with OwnDaemon(lambda _command: {"status": "ok"}) as daemon, health:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        monkeypatch.setenv("TASKER_ENDPOINTS_HEALTH", health.endpoint)
        result = tasker("doctor")
    assert result.exit_code == 1
    assert "schema      NO  the database has no tasker-zmq schema" in result.stdout
    assert "run `tasker-zmq db upgrade`" in result.stdout
    assert "partitions" not in result.stdout
    assert "commands    OK  " in result.stdout
    assert result.stderr.rstrip().endswith("schema")
