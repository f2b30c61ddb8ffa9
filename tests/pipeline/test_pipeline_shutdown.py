"""People end workers by a command: who is told, what is sent afterwards, who may."""

import msgspec
import pytest

from tasker_zmq.protocol.commands import ErrorData
from tasker_zmq.protocol.management import Shutdown, ShutdownWorker, WorkerShutdown
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template

CHAIN = template("chain", {"one": Node()})


@pytest.fixture
def managed(world: World) -> World:
    world.publish(CHAIN)
    world.desk.management = True
    return world


def told(world: World, worker: SimulatedWorker) -> list[Shutdown]:
    return [
        msgspec.json.decode(letter.payload.data, type=Shutdown)
        for route, letter in world.letters
        if route == worker.route and letter.command_type == "Shutdown"
    ]


def refusal(world: World, name: str) -> str:
    reply = world.ask("ShutdownWorker", ShutdownWorker(worker_name=name))
    return msgspec.json.decode(reply.payload.data, type=ErrorData).code


def test_a_worker_is_told_to_end_and_is_sent_nothing_more(managed: World) -> None:
    anna, bert = managed.worker("anna"), managed.worker("bert")
    reply = managed.ask("ShutdownWorker", ShutdownWorker(worker_name="anna", why="so"))
    answer = msgspec.json.decode(reply.payload.data, type=WorkerShutdown)
    assert answer.session_ids == (anna.session_id,)
    assert told(managed, anna) == [Shutdown(session_id=answer.session_ids[0], reason="so")]
    assert told(managed, bert) == []
    managed.submit_many("chain", 20)
    assert managed.session(anna).holding == {}
    assert len(managed.session(bert).holding) == 20


def test_asked_twice_under_one_id_a_worker_is_told_once(managed: World) -> None:
    anna = managed.worker("anna")
    request = ShutdownWorker(worker_name="anna")
    replies = [managed.ask("ShutdownWorker", request, command_id="c").payload for _ in range(2)]
    assert replies[0] == replies[1]
    assert len(told(managed, anna)) == 1


def test_who_is_not_here_is_said_to_be_elsewhere_or_nowhere(managed: World) -> None:
    assert refusal(managed, "anna") == "not_found"
    managed.worker("anna")
    (session_id,) = managed.state.sessions
    del managed.state.sessions[session_id]  # as another core's would be
    assert refusal(managed, "anna") == "elsewhere"


def test_nobody_ends_a_worker_unless_the_settings_allow_it(world: World) -> None:
    anna = world.worker("anna")
    assert refusal(world, "anna") == "not_allowed"
    assert told(world, anna) == []
    assert not world.session(anna).leaving
