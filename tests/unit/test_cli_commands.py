"""`tasker-zmq commands`: what was kept is found, and may be asked again where that is right."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.replay import REMEMBERED_MAX, PastCommand, why_never, why_not_same
from tasker_zmq.protocol.commands import ErrorData
from tasker_zmq.store import audit, schema
from tasker_zmq.store.audit import AuditRow, Direction
from tasker_zmq.store.connection import ConnectionLimits, create
from tests.unit.conftest import Seeded
from tests.unit.shell import Answer, OwnDaemon, tasker

CORE = "core-1"
ENVELOPE = (
    b'{"command_type":"ControlTasks","command_id":"%s","metadata":{"source":{"type":"cli",'
    b'"id":"ann@north"},"timeout_ms":30000},"payload":{"type":"ControlTasks","data":'
    b'{"action":"pause","task_ids":[1],"why":"a\\\\b"}}}'
)


def asked(kind: str, command_id: str, at: datetime, **more: Any) -> AuditRow:
    return AuditRow(
        created_at=at,
        direction=Direction.RECEIVED,
        command_type=kind,
        command_id=command_id,
        correlation_id=command_id,
        **{"outcome": "success", "execution_time_ms": 2.0, "source": "cli ann@north", **more},
    )


def kept(now: datetime) -> list[AuditRow]:
    ago = [now - timedelta(seconds=seconds) for seconds in (7_200, 50, 40, 30, 20, 10)]
    done = asked("ControlTasks", "c-1", ago[1], task_id=7, envelope=ENVELOPE % b"c-1")
    return [
        asked("ControlTasks", "c-old", ago[0], envelope=ENVELOPE % b"c-old"),
        done,
        AuditRow(
            created_at=ago[2],
            direction=Direction.SENT,
            command_type="Controlled",
            command_id="re-c-1",
            correlation_id="c-1",
            outcome="success",
            envelope=b'{"command_type":"Controlled","odd":"\\u0007"}',
        ),
        asked(
            "InitializeTask",
            "c-2",
            ago[3],
            execution_time_ms=80.0,
            outcome="not_found",
            audit_context=b'{"initiated_by":"olga"}',
        ),
        asked("RegisterWorker", "c-3", ago[4], worker_name="anna", envelope=ENVELOPE % b"c-3"),
        AuditRow(
            created_at=ago[5],
            direction=Direction.RECEIVED,
            command_type="WorkerHeartbeat",
            session_id="s1",
            worker_name="anna",
            outcome="success",
            execution_time_ms=1.5,
            messages=30,
        ),
    ]


@pytest.fixture(scope="module")
def filled(seeded: Seeded) -> Iterator[Engine]:
    """A daemon that began an hour ago, and what it has received."""
    now = SystemClock().now()
    engine = create(seeded.url, purpose="tests", limits=ConnectionLimits())
    with engine.begin() as connection:
        schema.ensure_partitions(connection, now)
        audit.write(connection, kept(now), core_id=CORE)
        connection.execute(text("DELETE FROM tasker_cores"))
        connection.execute(
            text(
                "INSERT INTO tasker_cores (core_id, epoch, endpoints, lease_expires_at, started_at)"
                " VALUES (:core, 1, '{}', :until, :since)"
            ),
            {"core": CORE, "until": now + timedelta(hours=9), "since": now - timedelta(hours=1)},
        )
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _database(
    filled: Engine, seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", seeded.url)


@pytest.fixture
def answers() -> list[Answer]:
    return [lambda _command: {"changed": [1]}]


def parsed(*arguments: str) -> Any:
    result = tasker("commands", *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), ["c-old", "c-1", "re-c-1", "c-2", "c-3", ""]),
        (("--limit", "2"), ["c-3", ""]),
        (("--type", "ControlTasks"), ["c-old", "c-1"]),
        (("--since", "1h", "--type", "ControlTasks"), ["c-1"]),
        (("--worker", "anna"), ["c-3", ""]),
        (("--outcome", "not_found"), ["c-2"]),
        (("--slow", "10"), ["c-2"]),
    ],
)
def test_commands_are_listed_by_every_filter_the_newest_last(
    arguments: tuple[str, ...], found: list[str]
) -> None:
    assert [row["command_id"] for row in parsed("list", *arguments)] == found


def test_a_table_says_who_asked_what_and_how_many_it_stands_for() -> None:
    lines = tasker("commands", "list").stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert any("ControlTasks" in line and "ann@north" in line for line in lines)
    assert any("InitializeTask" in line and "olga" in line for line in lines)
    assert "WorkerHeartbeat x 30" in lines[-1]


def test_a_command_is_shown_both_ways_by_its_own_id_or_by_that_of_a_row() -> None:
    both = parsed("show", "c-1")
    assert [row["direction"] for row in both] == ["received", "sent"]
    assert both == parsed("show", str(both[1]["id"]))
    assert both[0]["envelope"] == (ENVELOPE % b"c-1").decode()
    assert len(parsed("show", str(parsed("list", "--limit", "1")[0]["id"]))) == 1
    assert parsed("show", "c-2")[0]["audit_context"] == {"initiated_by": "olga"}
    assert "olga" in tasker("commands", "show", "c-2").stdout
    shown = tasker("commands", "show", "c-1").stdout
    assert '"why":"a\\\\b"' in shown
    missing = tasker("commands", "show", "c-9")
    assert missing.exit_code == 3
    assert "commands list" in missing.stderr


def test_latencies_are_told_by_type_and_counts_count() -> None:
    by_type = {row["command_type"]: row for row in parsed("stats", "--since", "1h")}
    assert by_type["WorkerHeartbeat"]["count"] == 30
    assert by_type["WorkerHeartbeat"]["p50_ms"] is None
    assert by_type["InitializeTask"] == {
        "command_type": "InitializeTask",
        "count": 1,
        "refused": 1,
        "p50_ms": 80.0,
        "p95_ms": 80.0,
        "max_ms": 80.0,
    }
    assert by_type["ControlTasks"]["count"] == 1
    assert "Controlled" not in by_type


def test_any_command_can_be_sent_and_its_answer_is_printed(daemon: OwnDaemon) -> None:
    result = tasker("commands", "send", "Whatever", "--data", '{"a": 1e2}')
    assert json.loads(result.stdout) == {"changed": [1]}
    (command,) = daemon.asked
    assert (command.command_type, bytes(command.payload.data)) == ("Whatever", b'{"a": 1e2}')
    assert tasker("commands", "send", "Whatever", "--data", "{a").exit_code == 2


def test_a_refusal_of_what_was_sent_is_one_of_the_command(
    daemon: OwnDaemon, answers: list[Answer]
) -> None:
    answers.insert(0, lambda _command: ErrorData(code="busy", message="not now", hint="later"))
    result = tasker("commands", "send", "Whatever")
    assert result.exit_code == 5
    assert "not now" in result.stderr


def test_a_replay_sends_nothing_unless_it_is_told(daemon: OwnDaemon) -> None:
    planned = parsed("replay", "c-1")
    assert (planned["sent"], planned["command_id"]) == (False, "c-1")
    assert planned["data"]["action"] == "pause"
    assert "--execute" in tasker("commands", "replay", "c-1").stderr
    assert daemon.asked == []


def test_a_replay_has_its_own_id_goes_to_its_own_daemon_and_in_the_name_of_who_repeats_it(
    daemon: OwnDaemon,
) -> None:
    told = parsed("replay", "c-1", "--execute")
    assert told["answer"] == {"changed": [1]}
    (command,) = daemon.asked
    assert command.command_id == told["command_id"] == "c-1"
    assert bytes(command.payload.data) in ENVELOPE
    assert command.metadata.target is not None
    assert (command.metadata.target.type, command.metadata.target.id) == ("core", CORE)
    assert command.metadata.source is not None
    assert command.metadata.source.id != "ann@north"


def test_again_it_has_a_new_id(daemon: OwnDaemon) -> None:
    told = parsed("replay", "c-old", "--execute", "--again")
    (command,) = daemon.asked
    assert command.command_id == told["command_id"] != "c-old"
    assert command.metadata.target is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("c-old", "restarted since"),
        ("c-3", "no worker has"),
        ("c-2", "was not kept"),
    ],
)
def test_what_must_not_be_sent_again_is_refused_with_the_reason(
    daemon: OwnDaemon, word: str, reason: str
) -> None:
    result = tasker("commands", "replay", word, "--execute")
    assert result.exit_code == 5
    assert reason in result.stderr
    assert daemon.asked == []


def past(kind: str = "ControlTasks", **more: Any) -> PastCommand:
    now = SystemClock().now()
    known: dict[str, Any] = {
        "command_type": kind,
        "received_at": now,
        "has_envelope": True,
        "envelope_bytes": 10,
        "changes_nothing": False,
        "core_started_at": now - timedelta(seconds=1),
        "later": 0,
    }
    return PastCommand(**{**known, **more})


def test_an_id_is_trusted_only_while_the_daemon_remembers_it() -> None:
    assert why_not_same(past()) is None
    assert why_not_same(past(core_started_at=None)) is not None
    assert why_not_same(past(later=REMEMBERED_MAX)) is not None
    assert why_not_same(past(later=REMEMBERED_MAX, changes_nothing=True)) is None
    assert why_never(past()) is None
    assert why_never(past("WorkerHeartbeat")) is not None
