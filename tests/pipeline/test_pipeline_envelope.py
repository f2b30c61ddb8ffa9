"""The envelope's fields in a real tick: each one changes what happens, or is refused."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.json import decode

from tasker_zmq.commands.answering import answer_question, read
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.pipeline.inbox import Letter, ReceivedCommand
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    NULL,
    Command,
    CommandMetadata,
    Peer,
    PublishTemplates,
)
from tasker_zmq.protocol.control import ControlTasks
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.store import workers as worker_store
from tasker_zmq.testing.world import CLIENT, Node, World, template

ONE = template("one", {"a": Node()})
LIMITS = WireLimits()


def enveloped(
    world: World, kind: str, payload: object, *, waited_ms: int = 0, **more: Any
) -> ReceivedCommand:
    """A command with more in its envelope, which came some time ago."""
    plain = world.command(kind, payload)
    command = msgspec.structs.replace(codec.decode_command(plain.body, LIMITS), **more)
    came_at = world.clock.now() - timedelta(milliseconds=waited_ms)
    return ReceivedCommand(plain.route, codec.encode(command), came_at)


def answer(world: World, received: ReceivedCommand) -> Command:
    before = len(world.letters)
    world.tick(received)
    (reply,) = [reply for route, reply in world.letters[before:] if route == CLIENT]
    return reply


def told(reply: Command) -> dict[str, Any]:
    found: dict[str, Any] = decode(reply.payload.data)
    return found


def tasks(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM tasker_tasks")[0][0])


def test_what_waited_longer_than_its_sender_waits_is_refused_and_not_done(world: World) -> None:
    world.publish(ONE)
    patience = CommandMetadata(timeout_ms=2_000)
    late = enveloped(
        world, "InitializeTask", world.request("one"), waited_ms=2_001, metadata=patience
    )
    assert told(answer(world, late))["code"] == "timed_out"
    publication = PublishTemplates(templates=(template("two", {"a": Node()}),))
    late = enveloped(world, "PublishTemplates", publication, waited_ms=9_000, metadata=patience)
    assert told(answer(world, late))["code"] == "timed_out"
    assert tasks(world) == 0
    assert not world.rows("SELECT 1 FROM tasker_named_tasks WHERE name = 'two'")
    soon = enveloped(
        world, "InitializeTask", world.request("one"), waited_ms=2_000, metadata=patience
    )
    assert answer(world, soon).payload.type == "Success"


def test_the_senders_own_clock_is_no_measure(world: World) -> None:
    world.publish(ONE)
    long_ago = CommandMetadata(timestamp="1999-12-31T23:59:59+00:00", timeout_ms=1_000)
    asked = enveloped(world, "InitializeTask", world.request("one"), metadata=long_ago)
    assert answer(world, asked).payload.type == "Success"


def test_what_was_done_is_told_again_however_late_the_second_copy_comes(world: World) -> None:
    publication = PublishTemplates(templates=(ONE,))
    patience = CommandMetadata(timeout_ms=1_000)
    asked = enveloped(world, "PublishTemplates", publication, metadata=patience)
    first = answer(world, asked)
    world.clock.advance(60)
    assert answer(world, asked).payload.data == first.payload.data


def test_a_reply_says_who_answers_and_when(world: World) -> None:
    world.publish(ONE)
    reply = world.ask("InitializeTask", world.request("one"))
    assert reply.metadata.source == Peer(type="core", id="core-1")
    assert reply.metadata.timestamp == world.clock.now().isoformat()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (CommandMetadata(timeout_ms=0), "timeout_ms is 0"),
        (CommandMetadata(priority="soon"), "low, normal, high or urgent"),
        (CommandMetadata(priority=1 << 40), "-1000000 to 1000000"),
        (CommandMetadata(retry_policy=msgspec.Raw(b'{"max_attempts":0}')), "max_attempts"),
        (CommandMetadata(namespace="elsewhere"), "namespace 'tests'"),
    ],
)
def test_an_envelope_that_nobody_can_act_upon_is_refused(
    world: World, metadata: CommandMetadata, said: str
) -> None:
    world.publish(ONE)
    asked = enveloped(world, "InitializeTask", world.request("one"), metadata=metadata)
    found = told(answer(world, asked))
    assert found["code"] == "invalid"
    assert said in found["message"]
    assert tasks(world) == 0


def test_the_envelopes_namespace_is_that_of_a_payload_that_names_none(world: World) -> None:
    metadata = CommandMetadata(namespace="tests")
    nameless = {key: value for key, value in ONE.items() if key != "namespace_name"}
    publication = PublishTemplates(templates=(nameless,))
    reply = answer(world, enveloped(world, "PublishTemplates", publication, metadata=metadata))
    assert told(reply)["verdicts"][0]["full_name"] == "tests/one@1.0.0"
    request = world.request("one", namespace=None)
    assert "names no namespace" in told(world.ask("InitializeTask", request))["message"]
    reply = answer(world, enveloped(world, "InitializeTask", request, metadata=metadata))
    assert told(reply)["named_task"] == "tests/one@1.0.0"


def test_a_template_of_another_namespace_than_the_envelopes_is_refused(world: World) -> None:
    metadata = CommandMetadata(namespace="orders")
    publication = PublishTemplates(templates=(ONE,))
    reply = answer(world, enveloped(world, "PublishTemplates", publication, metadata=metadata))
    assert told(reply)["code"] == "invalid"


def test_a_task_has_its_own_priority_else_the_envelopes(world: World) -> None:
    world.publish(ONE)
    urgent = CommandMetadata(priority="urgent")
    for request, expected in (
        (world.request("one"), 1_000),
        (world.request("one", priority="low"), -100),
        (world.request("one", priority=0), 0),
    ):
        reply = answer(world, enveloped(world, "InitializeTask", request, metadata=urgent))
        assert world.task(told(reply)["task_id"]).priority == expected


def test_who_is_behind_a_task_is_told_by_the_audit_context(world: World) -> None:
    world.publish(ONE)
    context = msgspec.Raw(b'{"initiated_by":"the night shift"}')
    source = CommandMetadata(source=Peer(type="client", id="north:17"))
    for request, audit_context, expected in (
        (world.request("one"), context, "the night shift"),
        (world.request("one"), NULL, "north:17"),
        (world.request("one", initiator="ann"), context, "ann"),
    ):
        asked = enveloped(
            world, "InitializeTask", request, metadata=source, audit_context=audit_context
        )
        reply = answer(world, asked)
        assert world.task(told(reply)["task_id"]).initiator == expected


def test_who_is_behind_a_decision_is_told_by_the_audit_context(world: World) -> None:
    world.publish(ONE)
    task = world.submit("one")
    context = msgspec.Raw(b'{"initiated_by":"the night shift"}')
    asked = enveloped(
        world,
        "ControlTasks",
        codec.encode(ControlTasks(action=TaskAction.CANCEL, task_ids=(task,), why="lunch")),
        metadata=CommandMetadata(source=Peer(type="client", id="north:17")),
        audit_context=context,
    )
    assert told(answer(world, asked))["changed"] == [task]
    found = world.rows("SELECT metadata FROM tasker_task_transitions WHERE metadata IS NOT NULL")
    assert found[0].metadata["by"] == "the night shift"


def test_a_decision_that_is_sent_twice_has_one_effect_and_one_answer(world: World) -> None:
    world.publish(ONE)
    task = world.submit("one")
    request = ControlTasks(action=TaskAction.PAUSE, task_ids=(task,), why="lunch", by="ann")
    first = world.ask("ControlTasks", request, command_id="c-1")
    assert told(first)["changed"] == [task]
    assert world.ask("ControlTasks", request, command_id="c-1").payload.data == first.payload.data
    assert told(world.ask("ControlTasks", request, command_id="c-2"))["already"] == [task]


def redirected(world: World, target: Peer) -> dict[str, Any]:
    """What a command with this target is answered, from wherever it is answered."""
    metadata = CommandMetadata(target=target)
    asked = enveloped(world, "InitializeTask", world.request("one"), metadata=metadata)
    by = Answerer("core-1", world.clock.now())
    found = read(asked, LIMITS, by=by)
    assert not isinstance(found, Letter)
    with world.engine.connect() as connection:
        letter = answer_question(*found, connection, by=by)
    return told(codec.decode_command(letter.body, LIMITS))


def test_a_command_for_another_core_is_refused_with_its_address(world: World) -> None:
    world.publish(ONE)
    with world.engine.begin() as connection:
        worker_store.start_core(
            connection,
            CoreId("core-2"),
            {"commands": "tcp://10.0.0.2:5557"},
            now=world.clock.now(),
            lease_seconds=10,
        )
    found = redirected(world, Peer(type="core", id="core-2"))
    assert found["code"] == "elsewhere"
    assert found["core"] == {"core_id": "core-2", "commands": "tcp://10.0.0.2:5557"}
    gone = redirected(world, Peer(type="core", id="core-9"))
    assert gone["code"] == "unknown_target"
    assert gone["hint"] == "running: core-1, core-2"
    assert redirected(world, Peer(type="printer", id="3"))["code"] == "unknown_target"
    world.clock.advance(11)
    assert redirected(world, Peer(type="core", id="core-2"))["code"] == "unknown_target"


def test_a_command_for_this_very_core_is_carried_out(world: World) -> None:
    world.publish(ONE)
    here = CommandMetadata(target=Peer(type="core", id="core-1"))
    asked = enveloped(world, "InitializeTask", world.request("one"), metadata=here)
    assert answer(world, asked).payload.type == "Success"
