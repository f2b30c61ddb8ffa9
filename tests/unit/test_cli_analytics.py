"""`tasker-zmq analytics` and `cores` on a real database, without any daemon."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasker_zmq.protocol.claims import MutexReleased, ReleaseMutex
from tests.unit.conftest import Seeded
from tests.unit.shell import OwnDaemon, asked_for, tasker

KINDS = ("tasks", "workers", "load", "compatibility", "commands", "audit", "system")


@pytest.fixture(autouse=True)
def _database(seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", seeded.url)


def parsed(*arguments: str) -> Any:
    result = tasker("analytics", *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_table_for_people_and_an_object_for_programs(kind: str) -> None:
    result = tasker("analytics", kind)
    assert result.exit_code == 0, result.output
    answer = parsed(kind)
    assert answer["since"] < answer["until"]
    assert answer["truncated"] is False
    assert parsed(answer["kind"])["kind"] == answer["kind"]


def test_tables_say_what_there_is() -> None:
    assert "orders/fulfil_order@1.0.0" in tasker("analytics", "tasks").stdout
    assert "anna" in tasker("analytics", "workers", "--worker", "anna").stdout
    load = tasker("analytics", "load")
    assert "times the mean share" in load.stderr
    system = tasker("analytics", "system").stdout
    assert "1 complete, 1 error" in system
    assert "core-1" in system


def test_the_last_hour_is_meant_unless_told() -> None:
    assert parsed("tasks")["rows"][0]["ended"] == 2
    assert parsed("tasks", "--last", "1ms")["rows"][0]["ended"] == 0


def test_what_makes_no_question_is_refused_with_what_would() -> None:
    result = tasker("analytics", "nonsense")
    assert result.exit_code == 2
    assert "wanted one of tasks, workers" in result.stderr
    result = tasker("analytics", "workers", "--namespace", "orders")
    assert result.exit_code == 1
    assert "not filtered by namespace" in result.stderr
    assert tasker("analytics", "tasks", "--last", "0s").exit_code == 2


def test_cores_are_listed_with_what_they_own() -> None:
    result = tasker("cores", "list", "-o", "json")
    (core,) = json.loads(result.stdout)
    assert (core["core_id"], core["alive"]) == ("core-1", True)
    assert (core["tasks_held"], core["sessions"]) == (1, 1)
    assert "core-1" in tasker("cores", "list").stdout
    assert json.loads(tasker("cores", "locks", "-o", "json").stdout) == []
    assert json.loads(tasker("cores", "ready", "-o", "json").stdout) == []


def test_a_release_is_told_by_what_came_of_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    told = MutexReleased(core_id="core-1", released=(7,), in_flight=(9,), not_held=())  # type: ignore[arg-type]
    with OwnDaemon(lambda _c: told) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        result = tasker("cores", "release", "7", "9", "--why", "test")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == ["given up: 7", "with a worker: 9"]
    asked = asked_for(daemon.asked[0], ReleaseMutex)
    assert (asked.task_ids, asked.why, asked.leave_seconds) == ((7, 9), "test", 30)
    assert tasker("cores", "release", "7").exit_code == 2
