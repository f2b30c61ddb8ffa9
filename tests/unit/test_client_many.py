"""Many tasks at once: packed into few commands, in order, and what is refused stands in no way."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasker_zmq import step, workflow
from tasker_zmq.client import AsyncTaskerClient, SomeRefusedError, TaskerClient, many
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.errors import NotFoundError, RefusedError, UnreachableError
from tasker_zmq.protocol.bulk import InitializeTasks, TaskAnswer, TasksInitialized
from tasker_zmq.protocol.commands import Command, ErrorData
from tests.unit.shell import OwnDaemon, asked_for, tasker

WORKFLOW = "orders/fulfil"
REFUSED = TaskAnswer(refused=ErrorData(code="invalid_context", message="no", hint="mend it"))
BEYOND = TaskAnswer(refused=ErrorData(code="too_many", message="in another command"))


@step
def pack(order: int) -> int:
    return order


fulfil = workflow(f"{WORKFLOW}@1.0.0", pack)


def requests(command: Command) -> list[dict[str, Any]]:
    asked: InitializeTasks = asked_for(command, InitializeTasks)
    found: list[dict[str, Any]] = msgspec.json.decode(asked.task_requests)
    return found


def told(lines: Sequence[TaskAnswer]) -> TasksInitialized:
    refused = sum(each.refused is not None for each in lines)
    created = len(lines) - refused
    return TasksInitialized(created=created, duplicates=0, refused=refused, tasks=tuple(lines))


def made(command: Command) -> TasksInitialized:
    """Each task has the number in its context; odd hundreds are refused."""
    numbers = [each["context"]["n"] for each in requests(command)]
    return told([REFUSED if n % 200 == 100 else TaskAnswer(task_id=TaskId(n + 1)) for n in numbers])


def contexts(count: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(count)]


def in_order(asked: Sequence[Command]) -> list[Command]:
    """By their first context: what is sent before the connection stands may come in any order."""
    return sorted(asked, key=lambda each: int(requests(each)[0]["context"]["n"]))


def test_many_contexts_go_into_few_commands_and_come_back_in_their_order() -> None:
    with OwnDaemon(made) as daemon, TaskerClient(daemon.endpoint) as client:
        found = client.submit_many(WORKFLOW, contexts(100) * 12, priority=3)
    assert [each.task_id for each in found] == [*range(1, 101)] * 12
    assert sorted(len(requests(each)) for each in daemon.asked) == [200, 500, 500]
    assert requests(daemon.asked[0])[7] == {
        "namespace": "orders", "name": "fulfil", "context": {"n": 7}, "priority": 3,
    }  # fmt: skip


def test_a_command_holds_no_more_bytes_than_it_should() -> None:
    large = [{"n": number, "pad": "x" * (100 << 10)} for number in range(5)]
    huge = {"n": 7, "pad": "x" * (300 << 10)}
    with OwnDaemon(made) as daemon, TaskerClient(daemon.endpoint) as client:
        found = client.submit_many(WORKFLOW, [*large, huge, {"n": 8}])
    assert [each.task_id for each in found] == [1, 2, 3, 4, 5, 8, 9]
    assert [len(requests(each)) for each in in_order(daemon.asked)] == [2, 2, 1, 1, 1]


def test_identities_go_with_their_contexts_and_there_must_be_one_for_each() -> None:
    with OwnDaemon(made) as daemon, TaskerClient(daemon.endpoint) as client:
        client.submit_many(WORKFLOW, contexts(2), identities=("a", "b"), worker="anna")
        with pytest.raises(ValueError, match=r"no identity for context \[1\]"):
            client.submit_many(WORKFLOW, contexts(2), identities=["a"])
        with pytest.raises(ValueError, match="wanted a workflow as"):
            client.submit_many("fulfil", contexts(1))
        assert client.submit_many(WORKFLOW, []) == []
    (command,) = daemon.asked
    assert [each["identity"] for each in requests(command)] == ["a", "b"]
    assert msgspec.json.decode(command.worker_routing)["target_worker_id"] == "anna"


def test_what_is_refused_is_told_with_its_place_after_all_were_asked_for() -> None:
    with (
        OwnDaemon(made) as daemon,
        TaskerClient(daemon.endpoint) as client,
        pytest.raises(SomeRefusedError, match=r"3 tasks were refused: \[100\] no; ") as caught,
    ):
        client.submit_many(WORKFLOW, contexts(600))
    error = caught.value
    assert list(error.refused) == [100, 300, 500]
    assert isinstance(error.refused[100], RefusedError)
    assert error.refused[100].__notes__ == ["mend it"]
    assert len(error.made) + len(error.refused) == 600
    assert error.made[101].task_id == 102


def test_a_command_that_is_refused_refuses_all_that_it_asked_for_and_no_others() -> None:
    def answer(command: Command) -> object:
        first = requests(command)[0]["context"]["n"]
        busy = ErrorData(code="not_found", message="nothing here")
        return busy if first == 0 else told([TaskAnswer(task_id=TaskId(9))] * 10)

    with (
        OwnDaemon(answer) as daemon,
        TaskerClient(daemon.endpoint) as client,
        pytest.raises(SomeRefusedError, match="500 tasks were refused") as caught,
    ):
        client.submit_many(WORKFLOW, contexts(510))
    assert isinstance(caught.value.refused[499], NotFoundError)
    assert sorted(caught.value.made) == list(range(500, 510))


def test_what_was_too_much_for_one_command_is_asked_for_in_the_next_ones() -> None:
    def answer(command: Command) -> object:
        numbers = [each["context"]["n"] for each in requests(command)]
        return told(
            [TaskAnswer(task_id=TaskId(n)) for n in numbers[:7]] + [BEYOND] * len(numbers[7:])
        )

    with OwnDaemon(answer) as daemon, TaskerClient(daemon.endpoint) as client:
        found = client.submit_many(WORKFLOW, contexts(40))
    assert [each.task_id for each in found] == list(range(40))
    assert [len(requests(each)) for each in daemon.asked] == [40, 7, 7, 7, 7, 5]


def test_a_daemon_that_falls_silent_ends_it_and_says_how_many_were_made() -> None:
    def answer(command: Command) -> object:
        return made(command) if requests(command)[0]["context"]["n"] < 100 else None

    with (
        OwnDaemon(answer) as daemon,
        TaskerClient(daemon.endpoint, timeout_seconds=0.5) as client,
        pytest.raises(UnreachableError, match="did not answer") as caught,
    ):
        client.submit_many(WORKFLOW, [*contexts(100) * 5, {"n": 101}])
    assert caught.value.__notes__ == ["500 of the tasks were made before that"]


def test_no_more_commands_are_under_way_than_a_few_and_no_more_contexts_are_read() -> None:
    unread = iter(contexts(10_000))
    with (
        OwnDaemon(lambda _command: None) as daemon,
        TaskerClient(daemon.endpoint, timeout_seconds=0.3) as client,
        pytest.raises(UnreachableError),
    ):
        client.submit_many(WORKFLOW, unread)
    assert len({each.command_id for each in daemon.asked}) == many.UNDER_WAY_MAX
    assert next(unread) == {"n": many.TASKS_MAX * many.UNDER_WAY_MAX}


def test_a_workflow_in_code_submits_many_of_itself() -> None:
    with OwnDaemon(made) as daemon, TaskerClient(daemon.endpoint) as client:
        found = fulfil.submit_many(contexts(2), identities=("a", "b"), client=client)
    assert [each.task_id for each in found] == [1, 2]
    names = {f"{each['namespace']}/{each['name']}" for each in requests(daemon.asked[0])}
    assert names == {WORKFLOW}


def test_the_same_with_await() -> None:
    async def submit(endpoint: str) -> None:
        async with AsyncTaskerClient(endpoint) as client:
            found = await client.submit_many(WORKFLOW, contexts(3), identities=("a", "b", "c"))
            assert [each.task_id for each in found] == [1, 2, 3]
            with pytest.raises(SomeRefusedError):
                await client.submit_many(WORKFLOW, [{"n": 100}])

    with OwnDaemon(made) as daemon:
        asyncio.run(submit(daemon.endpoint))


@pytest.fixture
def answers() -> list[Any]:
    return [made]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_submit_many_makes_a_task_of_each_line(daemon: OwnDaemon) -> None:
    Path("all.jsonl").write_text('{"n": 1, "id": "a"}\n\n{"n":  2, "id": 7}\n', encoding="utf-8")
    result = tasker(
        "tasks", "submit-many", f"{WORKFLOW}@1.0.0", "--file", "all.jsonl", "--key-field", "id",
        "--tag", "x", "--priority", "high", "--mode", "background", "-o", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "made": 2, "there_already": 0, "refused": 0, "task_ids": [2, 3], "refusals": [],
    }  # fmt: skip
    first, second = requests(daemon.asked[0])
    assert (first["identity"], second["identity"]) == ("a", "7")
    assert (first["version"], first["tags"], first["priority"]) == ("1.0.0", ["x"], "high")
    assert first["execution_mode"] == "background"
    asked = asked_for(daemon.asked[0], InitializeTasks)
    assert b'{"n":  2, "id": 7}' in bytes(asked.task_requests)
    assert daemon.asked[0].metadata.source is not None
    assert daemon.asked[0].metadata.source.type == "cli"


def test_refused_lines_are_named_and_the_others_are_made(daemon: OwnDaemon) -> None:
    lines = b'{"n": 1}\n{"n": 100}\n{"n": 2}\n'
    result = tasker("tasks", "submit-many", WORKFLOW, "--file", "-", given=lines)
    assert result.exit_code == 5, result.output
    assert "line 2: no" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["made", "2"], ["there", "already", "0"], ["refused", "1"],
        ["first", "task", "2"], ["last", "task", "3"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        (b'{"n": 1}\n{a}\n', (WORKFLOW,), "line 2 is not JSON"),
        (b'{"n": 1}\n[1]\n', (WORKFLOW,), "line 2 must be a JSON object, found [1]"),
        (b'{"n": 1}\n', (WORKFLOW, "--key-field", "id"), "as 'id', found nothing"),
        (b'{"n": true}\n', (WORKFLOW, "--key-field", "n"), "as 'n', found true"),
        (b"", ("fulfil",), "wanted NAMESPACE/NAME[@VERSION]"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused_before_anything_is_sent(
    daemon: OwnDaemon, lines: bytes, arguments: tuple[str, ...], said: str
) -> None:
    result = tasker("tasks", "submit-many", *arguments, "--file", "-", given=lines)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert daemon.asked == []
