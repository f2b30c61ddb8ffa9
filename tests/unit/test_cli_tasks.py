"""`tasker-zmq tasks submit`: what is sent, what is said, what is refused before it is sent."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine

from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.protocol.commands import Command, ErrorData
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest, WorkflowGraph
from tasker_zmq.testing import ManualClock
from tests.store.seeding import told
from tests.unit.shell import Answer, OwnDaemon, asked_for, tasker

WORKFLOW = "orders/fulfil_order"


def made(task_id: int, *, duplicate: bool = False) -> TaskInitialized:
    return TaskInitialized(
        task_id=TaskId(task_id),
        duplicate=duplicate,
        named_task=f"{WORKFLOW}@1.0.0",
        step_count=4,
        workflow_graph=WorkflowGraph(steps=(), edges=()),
    )


@pytest.fixture
def answers() -> list[Answer]:
    """What the daemon does; a test puts its own in front."""
    return [lambda _command: made(7)]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sent(daemon: OwnDaemon) -> TaskRequest:
    (command,) = daemon.asked
    request: InitializeTask = asked_for(command, InitializeTask)
    return request.task_request


def test_submit_sends_what_was_given_and_tells_the_task(daemon: OwnDaemon) -> None:
    result = tasker(
        "tasks", "submit", f"{WORKFLOW}@1.0.0", "--context", '{"a":  1.50}', "--key", "K",
        "--priority", "5", "--tag", "x", "--tag", "y", "--reason", "why", "-o", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task_id"] == 7
    request = sent(daemon)
    assert (request.namespace, request.name, request.version) == ("orders", "fulfil_order", "1.0.0")
    assert bytes(request.context) == b'{"a":  1.50}'
    assert (request.identity, request.priority, request.tags) == ("K", 5, ("x", "y"))
    assert request.reason == "why"


def test_the_newest_version_and_an_empty_context_are_meant_when_none_is_given(
    daemon: OwnDaemon,
) -> None:
    assert tasker("tasks", "submit", WORKFLOW).exit_code == 0
    request = sent(daemon)
    assert (request.version, bytes(request.context)) == (None, b"{}")


def test_the_name_of_a_workflow_may_hold_a_slash(daemon: OwnDaemon) -> None:
    assert tasker("tasks", "submit", "orders/eu/fulfil_order@2.0.0").exit_code == 0
    request = sent(daemon)
    assert (request.namespace, request.name, request.version) == (
        "orders", "eu/fulfil_order", "2.0.0",
    )  # fmt: skip


def test_the_context_comes_from_a_file_or_from_standard_input(daemon: OwnDaemon) -> None:
    Path("context.json").write_text('{"from": "file"}\n', encoding="utf-8")
    tasker("tasks", "submit", WORKFLOW, "--context-file", "context.json")
    tasker("tasks", "submit", WORKFLOW, "--context-file", "-", given='{"from": "stdin"}')
    contexts = [asked_for(each, InitializeTask).task_request.context for each in daemon.asked]
    assert [bytes(each) for each in contexts] == [b'{"from": "file"}', b'{"from": "stdin"}']


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((WORKFLOW, "--context", "{a: 1}"), "--context is not JSON"),
        ((WORKFLOW, "--context", "[1]"), "must be a JSON object like {...}, found [1]"),
        ((WORKFLOW, "--context", "{}", "--context-file", "-"), "not both"),
        ((WORKFLOW, "--timeout", "5s"), "--timeout is for --wait"),
        (("fulfil_order",), "wanted NAMESPACE/NAME[@VERSION]"),
        (("or ders/x",), "wanted NAMESPACE/NAME[@VERSION]"),
        ((WORKFLOW, "--wait", "--timeout", "soon"), "wanted a duration"),
        ((WORKFLOW, "--priority", "soon"), "low, normal, high or urgent"),
        ((WORKFLOW, "--at", "tomorrow"), "wanted a moment"),
        ((WORKFLOW, "--at", "2030-01-01", "--in", "5s"), "--at or --in"),
        ((WORKFLOW, "--workflow-file", "own.yaml"), "one only"),
        ((), "wanted NAMESPACE/NAME[@VERSION] or --workflow-file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    daemon: OwnDaemon, arguments: tuple[str, ...], said: str
) -> None:
    result = tasker("tasks", "submit", *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert daemon.asked == []


def test_the_worker_that_alone_is_to_run_it_is_named_in_the_envelope(daemon: OwnDaemon) -> None:
    assert tasker("tasks", "submit", WORKFLOW, "--worker", "anna@north").exit_code == 0
    assert tasker("tasks", "submit", WORKFLOW).exit_code == 0
    routed, plain = daemon.asked
    assert b'"target_worker_id":"anna@north"' in bytes(routed.worker_routing)
    assert bytes(plain.worker_routing) == b"null"


def test_a_time_a_mode_and_a_word_of_priority_are_sent(daemon: OwnDaemon) -> None:
    arguments = ("--at", "2030-01-31T08:00+01:00", "--mode", "background", "--priority", "high")
    assert tasker("tasks", "submit", WORKFLOW, *arguments).exit_code == 0
    request = sent(daemon)
    assert request.scheduled_for == "2030-01-31T08:00:00+01:00"
    assert (request.execution_mode, request.priority) == ("background", "high")


def test_in_a_while_is_a_moment_with_its_zone(daemon: OwnDaemon) -> None:
    before = SystemClock().now()
    assert tasker("tasks", "submit", WORKFLOW, "--in", "1h").exit_code == 0
    at = datetime.fromisoformat(sent(daemon).scheduled_for or "")
    assert at - before >= timedelta(hours=1)


def test_a_workflow_in_a_file_goes_along_once_it_is_right(daemon: OwnDaemon) -> None:
    text = "name: own\nnamespace_name: orders\nsteps:\n- name: a\n  handler: {callable: x.y}\n"
    Path("own.yaml").write_text(text, encoding="utf-8")
    Path("bad.yaml").write_text("name: own\nsteps: []\n", encoding="utf-8")
    assert tasker("tasks", "submit", "--workflow-file", "bad.yaml").exit_code == 1
    assert tasker("tasks", "submit", "--workflow-file", "own.yaml").exit_code == 0
    (command,) = daemon.asked
    found = msgspec.json.decode(asked_for(command, InitializeTask).workflow)
    assert (found["name"], len(found["steps"])) == ("own", 1)


def test_a_file_that_is_not_there_is_named(daemon: OwnDaemon) -> None:
    result = tasker("tasks", "submit", WORKFLOW, "--context-file", "nowhere.json")
    assert (result.exit_code, "nowhere.json" in result.stderr) == (1, True)


def test_a_task_that_was_there_already_is_said(daemon: OwnDaemon, answers: list[Answer]) -> None:
    answers[0] = lambda _command: made(7, duplicate=True)
    result = tasker("tasks", "submit", WORKFLOW, "--key", "K", "-o", "json")
    assert json.loads(result.stdout)["duplicate"] is True
    assert "task 7 was there already" in result.stderr


@pytest.mark.parametrize(("code", "exit_code"), [("not_found", 3), ("invalid_context", 5)])
def test_a_refusal_brings_the_daemons_words_and_hint(
    daemon: OwnDaemon, answers: list[Answer], code: str, exit_code: int
) -> None:
    def refuse(_command: Command) -> ErrorData:
        return ErrorData(code=code, message="no such thing", hint="try another")

    answers[0] = refuse
    result = tasker("tasks", "submit", WORKFLOW)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == "error: no such thing\nhint: try another\n"


def test_without_a_daemon_it_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", "tcp://127.0.0.1:1")
    result = tasker("tasks", "submit", WORKFLOW)
    assert result.exit_code == 4
    assert "start one with `tasker-zmq daemon`" in result.stderr


def test_submit_and_wait_ends_with_the_result_of_the_task(
    daemon: OwnDaemon,
    answers: list[Answer],
    engine: Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    with engine.begin() as connection:
        cast = told(connection, ManualClock(SystemClock().now()))
    answers[0] = lambda _command: made(cast.complete)
    complete = tasker("tasks", "submit", WORKFLOW, "--wait")
    assert (complete.exit_code, "It completed" in complete.stdout) == (0, True)
    answers[0] = lambda _command: made(cast.failed)
    failed = tasker("tasks", "submit", WORKFLOW, "--wait", "-o", "json")
    assert (failed.exit_code, json.loads(failed.stdout)["state"]) == (1, "error")
    assert "card declined" in failed.stderr
    answers[0] = lambda _command: made(cast.half_way)
    late = tasker("tasks", "submit", WORKFLOW, "--wait", "--timeout", "1ms")
    assert (late.exit_code, "still in progress" in late.stderr) == (1, True)
