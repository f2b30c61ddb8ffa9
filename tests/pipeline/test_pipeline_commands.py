"""InitializeTask and publishing: one task for one wish, and a clear word for a bad one."""

from typing import Any

import pytest
from msgspec.json import decode

from tasker_zmq.pipeline.inbox import ReceivedCommand
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol.commands import (
    Command,
    PublishTemplates,
    RegisterWorker,
    WorkerMetadata,
    WorkerRegistered,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

SCHEMA = {
    "type": "object",
    "required": ["order_id", "lines"],
    "properties": {
        "order_id": {"type": "integer", "minimum": 1},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": {"type": "object", "required": ["sku"]}},
}
ONE = template("one", {"a": Node()})
CHECKED = template("checked", {"a": Node()}, input_schema=SCHEMA)


def refusal(reply: Command) -> dict[str, Any]:
    assert reply.payload.type == "Error", bytes(reply.payload.data)
    told: dict[str, Any] = decode(reply.payload.data)
    return told


def tasks(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM tasker_tasks")[0][0])


def test_the_answer_names_the_task_and_its_graph(world: World) -> None:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    told = decode(world.ask("InitializeTask", world.request("pair")).payload.data)
    assert told["duplicate"] is False
    assert told["step_count"] == 2
    assert told["named_task"] == "tests/pair@1.0.0"
    assert told["workflow_graph"] == {"steps": ["a", "b"], "edges": [{"from": "a", "to": "b"}]}
    assert world.task(told["task_id"]).state == "pending"


def test_the_same_identity_is_the_same_task(world: World) -> None:
    world.publish(ONE, CHECKED)
    first = world.submit("one", identity="order-7")
    again = decode(
        world.ask("InitializeTask", world.request("one", identity="order-7")).payload.data
    )
    assert (again["task_id"], again["duplicate"]) == (first, True)
    other = world.submit("checked", {"order_id": 1, "lines": []}, identity="order-7")
    assert other != first
    assert world.submit("one", identity="order-8") != first


def test_the_same_identity_within_one_tick_is_the_same_task(world: World) -> None:
    world.publish(ONE)
    worker = world.worker()
    before = len(world.letters)
    world.tick(
        *(world.command("InitializeTask", world.request("one", identity="x")) for _ in range(5))
    )
    told = [decode(reply.payload.data) for _, reply in world.letters[before:]]
    assert len({each["task_id"] for each in told}) == 1
    assert sorted(each["duplicate"] for each in told) == [False, True, True, True, True]
    assert len(worker.requests) == 1
    world.run()
    assert tasks(world) == 1


def test_a_command_that_is_sent_twice_is_one_task(world: World) -> None:
    world.publish(ONE)
    request = world.request("one", {"n": 1})
    first = decode(world.ask("InitializeTask", request, command_id="c-1").payload.data)
    again = decode(world.ask("InitializeTask", request, command_id="c-1").payload.data)
    other = decode(world.ask("InitializeTask", request, command_id="c-2").payload.data)
    assert (again["task_id"], again["duplicate"]) == (first["task_id"], True)
    assert other["task_id"] != first["task_id"]


def test_the_newest_version_is_taken_when_none_is_named(world: World) -> None:
    newer = template("one", {"a": Node(), "b": Node()}, version="2.0.0")
    world.publish(ONE)
    assert world.task(world.submit("one", version=None)).step_count == 1
    world.publish(newer)
    assert world.task(world.submit("one", version=None)).step_count == 2
    assert world.task(world.submit("one")).step_count == 1


def test_what_another_core_publishes_counts_from_the_next_task_on(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(ONE)
    assert first.task(first.submit("one", version=None)).step_count == 1
    second.publish(template("one", {"a": Node(), "b": Node()}, version="2.0.0"))
    assert first.task(first.submit("one", version=None)).step_count == 2
    assert first.task(first.submit("one", version=None)).step_count == 2


def test_what_another_core_replaces_is_made_as_it_is_now(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(CHECKED)
    assert refusal(first.ask("InitializeTask", first.request("checked", b"{}")))  # it is known now
    wider = template("checked", {"a": Node(), "b": Node()})
    second.ask("PublishTemplates", PublishTemplates(templates=(wider,)))
    assert first.task(first.submit("checked")).step_count == 2


BAD_CONTEXTS: tuple[tuple[bytes, str], ...] = (
    (b"{}", "'order_id' is a required property"),
    (b'{"order_id": 0, "lines": []}', "$.order_id"),
    (b'{"order_id": "7", "lines": []}', "$.order_id"),
    (b'{"order_id": 7, "lines": [{}]}', "$.lines[0]"),
    (b"[]", "must be a JSON object, not list"),
    (b"null", "must be a JSON object"),
    (b'"text"', "must be a JSON object, not str"),
)


@pytest.mark.parametrize(("context", "said"), BAD_CONTEXTS)
def test_a_context_that_does_not_fit_is_refused_with_the_place(
    world: World, context: bytes, said: str
) -> None:
    world.publish(CHECKED)
    told = refusal(world.ask("InitializeTask", world.request("checked", context)))
    assert said in told["message"]
    assert tasks(world) == 0


def test_a_context_that_fits_is_taken(world: World) -> None:
    world.publish(CHECKED)
    world.submit("checked", {"order_id": 7, "lines": [{"sku": "a"}], "more": None})
    assert tasks(world) == 1


@pytest.mark.parametrize(
    "context", [b'{"a": "\\u0000"}', b'{"\\u0000": 1}', b'{"a": "x\x00y"}', b'{"a": "\\ud800"}']
)
def test_a_context_that_the_database_cannot_keep_is_refused_alone(
    world: World, context: bytes
) -> None:
    world.publish(ONE)
    before = len(world.letters)
    fine = world.command("InitializeTask", world.request("one"))
    placeholder = world.command("InitializeTask", world.request("one", {"HERE": 1}))
    body = placeholder.body.replace(b'{"HERE":1}', context)
    assert context in body
    world.tick(type(placeholder)(placeholder.route, body), fine)
    kinds = sorted(reply.payload.type for _, reply in world.letters[before:])
    assert kinds == ["Error", "Success"]
    assert tasks(world) == 1


def test_an_escaped_backslash_before_u0000_is_no_nul(world: World) -> None:
    world.publish(ONE)
    task = world.submit("one", b'{"path": "C:\\\\u0000"}')
    assert world.task(task).context == {"path": "C:\\u0000"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"identity": "x" * 501}, "identity"),
        ({"priority": 1 << 31}, "priority"),
        ({"priority": -(1 << 31)}, "priority"),
        ({"priority": "hihg"}, "priority"),
        ({"tags": "a"}, "tags"),
        ({"identity": 7}, "identity"),
    ],
)
def test_a_field_that_no_column_holds_is_refused_by_its_name(
    world: World, more: dict[str, Any], said: str
) -> None:
    world.publish(ONE)
    told = refusal(world.ask("InitializeTask", world.request("one", **more)))
    assert said in told["message"]
    assert tasks(world) == 0


def test_an_unknown_workflow_is_refused_with_the_nearest_name(world: World) -> None:
    world.publish(ONE)
    told = refusal(world.ask("InitializeTask", world.request("onee")))
    assert told["code"] == "not_found"
    assert told["hint"] == "did you mean 'tests/one@1.0.0'?"


def test_a_step_too_large_to_send_ends_in_error_with_a_dead_letter(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(limits=WireLimits(steps_bytes_max=20_000)))
    world.publish(
        template("grow", {"a": Node(), "b": Node(after=("a",)), "c": Node(after=("a",))}),
        ONE,
    )
    world.worker(handler=lambda _: Word(output="x" * 30_000))
    task = world.submit("grow")
    fine = world.submit("one")
    world.run()
    assert world.states(task) == {"a": "complete", "b": "error", "c": "error"}
    assert world.task(task).state == "error"
    assert world.steps(task)["b"].error["error_type"] == "StepTooLarge"
    assert [letter.reason for letter in world.dead_letters()] == ["permanent_error"] * 2
    assert world.task(fine).state == "complete"


def test_a_first_step_too_large_to_send_ends_its_task(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(limits=WireLimits(steps_bytes_max=20_000)))
    world.publish(ONE)
    world.worker()
    task = world.submit("one", {"big": "x" * 30_000})
    world.run()
    assert world.task(task).state == "error"
    assert world.states(task) == {"a": "error"}


def test_urgent_tasks_come_first(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(credit_factor=1.0))
    world.publish(ONE)
    slow = [world.submit("one", priority=0) for _ in range(3)]
    urgent = world.submit("one", priority=5)
    later = world.submit("one", priority=-5)
    worker = world.worker(concurrency=1)
    world.run()
    assert [request.task_id for request in worker.requests] == [urgent, *slow, later]


def test_a_workflow_that_tasks_are_pinned_to_is_not_changed_under_them(world: World) -> None:
    world.publish(ONE)
    changed = template("one", {"a": Node(), "b": Node()})
    world.submit("one")
    verdict = decode(world.ask("PublishTemplates", {"templates": [changed]}).payload.data)
    assert verdict["verdicts"][0]["verdict"] == "refused"
    same = decode(world.ask("PublishTemplates", {"templates": [ONE]}).payload.data)
    assert same["verdicts"][0]["verdict"] == "unchanged"


def test_a_workflow_without_tasks_is_replaced_and_used_in_its_new_form(world: World) -> None:
    world.publish(ONE)
    changed = template("one", {"a": Node(handler="tests.other"), "b": Node(after=("a",))})
    verdict = decode(world.ask("PublishTemplates", {"templates": [changed]}).payload.data)
    assert verdict["verdicts"][0]["verdict"] == "replaced"
    world.worker(handlers=("tests.work", "tests.other"))
    task = world.submit("one")
    world.run()
    assert world.states(task) == {"a": "complete", "b": "complete"}


def test_a_registration_that_arrives_twice_begins_one_session(world: World) -> None:
    request = RegisterWorker(worker_name="anna", metadata=WorkerMetadata(max_concurrent_steps=1))

    def register(command_id: str) -> ReceivedCommand:
        return world.command("RegisterWorker", request, command_id=command_id)

    world.tick(register("first"), register("first"))
    world.tick(register("first"), register("second"))
    answers = [
        decode(reply.payload.data, type=WorkerRegistered).session_id for _, reply in world.letters
    ]
    assert answers[0] == answers[1] == answers[2] != answers[3]
    assert sorted(world.state.sessions) == sorted(answers[2:])
