"""From silence to suspicion to the end of a session, and what the log says of it."""

import logging
from typing import Any

import pytest

from tasker_zmq.daemon.tuning import tuning_of
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.protocol.commands import InHand, WorkerGoodbye
from tasker_zmq.settings import HeartbeatSettings, Settings
from tasker_zmq.telemetry.events import Event
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

ONE = template("one", {"a": Node()})


def status(world: World, worker: SimulatedWorker) -> str:
    (found,) = world.rows(
        "SELECT status FROM tasker_worker_registrations WHERE session_id = :s", s=worker.session_id
    )
    return str(found.status)


def logged(caplog: pytest.LogCaptureFixture, event: Event) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.msg == event.value]


def test_the_setting_is_what_the_core_is_given() -> None:
    heartbeat = HeartbeatSettings(suspect_seconds=3.5)
    assert tuning_of(Settings(heartbeat=heartbeat)).session_suspect_seconds == 3.5


def test_a_session_silent_for_a_while_gets_no_new_steps_and_is_shown_unhealthy(
    make_world: MakeWorld,
) -> None:
    world = make_world(tuning=Tuning(session_suspect_seconds=4.0))
    world.publish(ONE)
    anna = world.worker("anna")
    world.wait(3)
    assert status(world, anna) == "healthy"
    anna.silent = True
    world.wait(4.5)
    assert status(world, anna) == "unhealthy"
    task = world.submit("one")
    assert (anna.in_hand, world.states(task)) == ([], {"a": "pending"})
    now = world.clock.now()
    assert next_due(world.state, world.tuning, now) > now
    anna.silent = False
    world.run()
    assert world.task(task).state == "complete"


def test_one_that_was_heard_again_is_suspected_again_as_soon_as_before(
    make_world: MakeWorld,
) -> None:
    tuning = Tuning(session_suspect_seconds=4.0, session_dead_seconds=60.0)
    world = make_world(tuning=tuning)
    anna = world.worker("anna")
    for _ in range(2):
        anna.silent = True
        world.wait(4.5)
        assert status(world, anna) == "unhealthy"
        anna.silent = False
        world.wait(3)
        assert status(world, anna) == "healthy"


def test_a_heartbeat_makes_a_suspect_session_healthy_again(world: World) -> None:
    anna = world.worker("anna")
    anna.silent = True
    world.wait(7)
    assert status(world, anna) == "unhealthy"
    anna.silent = False
    world.wait(3)
    assert status(world, anna) == "healthy"
    assert world.session(anna).room(world.clock.now()) > 0


def test_who_is_heard_in_the_same_tick_is_neither_suspect_nor_gone(world: World) -> None:
    anna = world.worker("anna")
    world.clock.advance(30)
    world.tick(*world.beats())
    assert world.session(anna).room(world.clock.now()) > 0
    assert status(world, anna) == "registered"


def test_a_registration_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        anna = world.worker("anna", concurrency=3)
    (fields,) = logged(caplog, Event.WORKER_REGISTERED)
    assert (fields["worker"], fields["session_id"]) == ("anna", anna.session_id)
    assert (fields["handlers"], fields["credit"]) == (1, 6)


def test_the_end_of_a_silent_session_is_logged_with_what_it_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish(template("twins", {"left": Node(), "right": Node()}))
    anna = world.worker("anna")
    world.submit("twins")
    anna.silent = True
    with caplog.at_level(logging.INFO):
        world.wait(11)
    (fields,) = logged(caplog, Event.SESSION_GONE)
    assert (fields["worker"], fields["session_id"]) == ("anna", anna.session_id)
    assert (fields["reason"], fields["given_back"], fields["lost"]) == ("silence", 0, 2)
    world.worker("bert")
    world.run()


def test_a_goodbye_is_logged_with_what_was_given_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish(template("twins", {"left": Node(), "right": Node()}))
    anna = world.worker("anna")
    world.submit("twins")
    batch = anna.batch()
    one = InHand(batch_id=batch.batch_id, step_ids=(batch.steps[0].step_id,))
    assert anna.session_id is not None
    with caplog.at_level(logging.INFO):
        world.ask("WorkerGoodbye", WorkerGoodbye(session_id=anna.session_id, unfinished=(one,)))
    anna.silent = True
    (fields,) = logged(caplog, Event.SESSION_GONE)
    assert (fields["reason"], fields["given_back"], fields["lost"]) == ("goodbye", 1, 1)
    world.worker("bert")
    world.run()
