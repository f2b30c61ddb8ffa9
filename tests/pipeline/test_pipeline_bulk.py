"""InitializeTasks: many tasks by one command, each made or refused by itself."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.json import decode

from tasker_zmq.commands.making import CREATED_TOGETHER
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import ReceivedCommand
from tasker_zmq.pipeline.state import WARY_TICKS
from tasker_zmq.protocol import bulk, codec
from tasker_zmq.protocol.bulk import TaskAnswer, TasksInitialized
from tasker_zmq.protocol.commands import Command, CommandMetadata, Payload
from tasker_zmq.testing.world import CLIENT, Node, World, template

SCHEMA = {"type": "object", "required": ["order_id"]}
SHIP = {"version": "1.0.0", "steps": [{"name": "ship", "handler": {"callable": "tests.work"}}]}


@pytest.fixture(autouse=True)
def published(world: World) -> None:
    world.publish(
        template("one", {"a": Node()}),
        template("pair", {"a": Node(), "b": Node(after=("a",))}),
        template("checked", {"a": Node()}, input_schema=SCHEMA),
    )


def request(name: str = "one", **more: Any) -> dict[str, Any]:
    return {"namespace": "tests", "name": name, **more}


def ask(
    world: World,
    requests: Sequence[object],
    *,
    command_id: str | None = None,
    **more: Any,
) -> TasksInitialized:
    payload = {"task_requests": list(requests), **more}
    reply = world.ask("InitializeTasks", payload, command_id=command_id)
    assert reply.payload.type == "Success", bytes(reply.payload.data)
    return decode(reply.payload.data, type=TasksInitialized)


def refused(world: World, payload: object) -> dict[str, Any]:
    reply = world.ask("InitializeTasks", payload)
    assert reply.payload.type == "Error", bytes(reply.payload.data)
    told: dict[str, Any] = decode(reply.payload.data)
    return told


def ids(told: TasksInitialized) -> list[TaskId]:
    return [each.task_id for each in told.tasks if each.task_id is not None]


def codes(told: TasksInitialized) -> list[str | None]:
    return [each.refused.code if each.refused else None for each in told.tasks]


def test_the_tasks_are_made_in_the_order_of_the_requests_and_all_run(world: World) -> None:
    names = ["one", "pair", "one", "checked"]
    told = ask(world, [request(each, context={"order_id": n}) for n, each in enumerate(names)])
    assert (told.created, told.duplicates, told.refused) == (4, 0, 0)
    rows = [world.task(task_id) for task_id in ids(told)]
    assert [row.context for row in rows] == [{"order_id": n} for n in range(4)]
    assert [row.step_count for row in rows] == [1, 2, 1, 1]
    assert ids(told) == sorted(ids(told))
    world.worker()
    world.run()
    assert {world.task(task_id).state for task_id in ids(told)} == {"complete"}


def test_what_one_request_may_say_each_of_several_may(world: World) -> None:
    asked = request(
        identity="order-7", priority="high", tags=["vip"], reason="why", source_system="shop"
    )
    row = world.task(*ids(ask(world, [asked])))
    assert (row.identity, row.priority, row.tags) == ("order-7", 100, ["vip"])
    assert (row.reason, row.source_system) == ("why", "shop")


def test_a_bad_request_is_refused_and_the_others_are_made(world: World) -> None:
    told = ask(
        world,
        [
            request(),
            request("nothing"),
            request("checked", context={}),
            "no request",
            request(tags=5),
            request(context=[1]),
            request(priority="soonish"),
            request("checked", context={"order_id": 1}),
        ],
    )
    bad = ["not_found", "invalid_context", "invalid", "invalid", "invalid", "invalid"]
    assert codes(told) == [None, *bad, None]
    assert (told.created, told.refused) == (2, 6)
    assert world.rows("SELECT count(*) FROM tasker_tasks")[0][0] == 2
    hint = told.tasks[2].refused
    assert hint is not None
    assert hint.hint == "tasker-zmq workflows show tests/checked@1.0.0"


def test_a_command_that_is_sent_twice_makes_its_tasks_once(world: World) -> None:
    requests = [request(context={"n": number}) for number in range(3)]
    first = ask(world, requests, command_id="c-1")
    again = ask(world, requests, command_id="c-1")
    world.restart()
    later = ask(world, requests, command_id="c-1")
    assert ids(first) == ids(again) == ids(later)
    assert (again.created, again.duplicates) == (later.created, later.duplicates) == (0, 3)
    other = ask(world, requests, command_id="c-2")
    assert not set(ids(other)) & set(ids(first))


def test_more_than_are_created_together_are_made_in_order_and_once(world: World) -> None:
    """Nobody waits for the first of them, until the command comes a second time."""
    several = 2 * CREATED_TOGETHER + 1
    told = ask(world, [request()] * several, command_id="again")
    assert told.created == several
    assert ids(told) == sorted(ids(told))
    again = ask(world, [request()] * several, command_id="again")
    assert (again.created, again.duplicates) == (0, several)
    assert ids(again) == ids(told)
    (counted,) = world.rows("SELECT count(*) AS n FROM tasker_tasks")
    assert counted.n == several


def test_who_was_surprised_waits_for_a_while_to_see_what_is_there(world: World) -> None:
    ask(world, [request()], command_id="again")
    assert not world.state.wary
    ask(world, [request()], command_id="again")
    assert world.state.wary == WARY_TICKS - 1
    told = ask(world, [request()] * (CREATED_TOGETHER + 1), command_id="another")
    assert told.created == CREATED_TOGETHER + 1
    for _ in range(WARY_TICKS):
        world.tick()
    assert not world.state.wary


def test_one_identity_is_one_task_within_a_command_and_beyond_it(world: World) -> None:
    there = world.submit("one", identity="x")
    told = ask(world, [request(identity="x"), request(identity="y"), request(identity="y")])
    assert told.tasks[0] == TaskAnswer(task_id=there, duplicate=True)
    assert told.tasks[1].task_id == told.tasks[2].task_id
    assert [each.duplicate for each in told.tasks] == [True, False, True]


def test_commands_for_one_task_and_for_several_share_a_tick(world: World) -> None:
    before = len(world.letters)
    world.tick(
        world.command("InitializeTask", world.request("one", identity="single")),
        world.command("InitializeTasks", {"task_requests": [request(), request("nothing")]}),
        world.command("InitializeTasks", {"task_requests": [request("pair")]}),
    )
    kinds = [reply.command_type for _, reply in world.letters[before:]]
    assert kinds == ["TaskInitialized", "TasksInitialized", "TasksInitialized"]
    answers = [decode(reply.payload.data) for _, reply in world.letters[before:]]
    assert world.task(answers[0]["task_id"]).identity == "single"
    assert [each.get("task_id") is None for each in answers[1]["tasks"]] == [False, True]
    assert world.task(answers[2]["tasks"][0]["task_id"]).step_count == 2


def test_one_workflow_that_comes_along_is_for_all_of_them(world: World) -> None:
    bare = {"namespace": "tests", "name": "own"}
    told = ask(world, [bare, {**bare, "name": "other"}, bare], workflow={**SHIP, "name": "own"})
    assert codes(told) == [None, "invalid", None]
    assert len({world.task(task_id).named_task_id for task_id in ids(told)}) == 1


def test_too_many_requests_and_none_are_refused(world: World) -> None:
    many = [request()] * (bulk.TASKS_PER_COMMAND_MAX + 1)
    assert "there are 1001 task_requests" in refused(world, {"task_requests": many})["message"]
    assert refused(world, {})["code"] == "invalid"
    assert refused(world, {"task_requests": 5})["code"] == "invalid"


def test_requests_beyond_the_steps_and_workflows_of_a_command_are_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker_zmq.commands.making.STEPS_PER_COMMAND_MAX", 3)
    told = ask(world, [request("pair"), request("pair"), request(), request()])
    assert codes(told) == [None, "too_many", None, "too_many"]
    monkeypatch.setattr("tasker_zmq.commands.making.STEPS_PER_COMMAND_MAX", 1)
    assert codes(ask(world, [request("pair"), request()])) == [None, "too_many"]
    monkeypatch.setattr("tasker_zmq.commands.making.WORKFLOWS_PER_COMMAND_MAX", 1)
    told = ask(world, [request("no"), request("nothing"), request("no")])
    assert codes(told) == ["not_found", "too_many", "not_found"]


def test_the_envelope_s_namespace_priority_and_worker_are_for_all_of_them(world: World) -> None:
    anna, berta = world.worker("anna"), world.worker("berta")
    told = _enveloped(
        world,
        [{"name": "one"}, {"name": "one", "namespace": "others"}, {"name": "one", "priority": 3}],
        metadata=CommandMetadata(namespace="tests", priority="high"),
        worker_routing=codec.raw({"target_worker_id": "berta"}),
    )
    assert codes(told) == [None, "invalid", None]
    assert [world.task(task_id).priority for task_id in ids(told)] == [100, 3]
    world.tick()
    assert (len(anna.requests), len(berta.requests)) == (0, 2)


def _enveloped(world: World, requests: Sequence[object], **envelope: Any) -> TasksInitialized:
    command = Command(
        command_type="InitializeTasks",
        command_id="enveloped",
        payload=Payload(type="InitializeTasks", data=codec.raw({"task_requests": requests})),
        **envelope,
    )
    before = len(world.letters)
    world.tick(ReceivedCommand(CLIENT, codec.encode(command)))
    (reply,) = [reply for route, reply in world.letters[before:] if route == CLIENT]
    return decode(reply.payload.data, type=TasksInitialized)


def test_a_core_that_stops_takes_none_of_them(world: World) -> None:
    world.state.draining = True
    assert refused(world, {"task_requests": [request()]})["code"] == "busy"
