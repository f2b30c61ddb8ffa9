"""What people decide about workers: drained, disabled, enabled, pinned; and who answers a ping."""

from typing import Any

import orjson
import pytest
from sqlalchemy import text

from tasker_zmq.pipeline.inbox import WorkersManaged
from tasker_zmq.protocol.commands import Command, SupportedTask
from tasker_zmq.protocol.workers import ManageAction, ManageWorker, PingWorker, PinTarget
from tasker_zmq.testing.clock import ManualClock
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import NAMESPACE, Node, World, template
from tests.pipeline.conftest import MakeWorld


def manage(
    world: World, worker: str, action: ManageAction, *, pin: PinTarget | None = None
) -> dict[str, Any]:
    asked = ManageWorker(worker_name=worker, action=action, pin=pin, why="because", by="olga")
    reply = world.ask("ManageWorker", asked)
    return dict(orjson.loads(bytes(reply.payload.data)))


def ran(worker: SimulatedWorker) -> set[int]:
    return {int(each.task_id) for each in worker.requests}


@pytest.fixture
def single(world: World) -> World:
    world.publish(template("single", {"a": Node()}), template("other", {"a": Node()}))
    return world


def test_a_draining_worker_ends_what_it_has_and_gets_nothing_new(single: World) -> None:
    anna = single.worker("anna")
    first = single.submit("single")
    single.tick()
    assert manage(single, "anna", ManageAction.DRAIN)["mode"] == "draining"
    second = single.submit("single")
    single.tick(*single.work())
    assert single.task(first).state == "complete"
    single.wait(30)
    assert ran(anna) == {first}
    assert manage(single, "anna", ManageAction.ENABLE)["mode"] == "enabled"
    single.run()
    assert ran(anna) == {first, second}


def test_nothing_goes_out_in_the_very_tick_in_which_a_worker_is_drained(single: World) -> None:
    anna = single.worker("anna")
    asked = ManageWorker(worker_name="anna", action=ManageAction.DRAIN, by="olga")
    single.tick(
        single.command("InitializeTask", single.request("single")),
        single.command("ManageWorker", asked),
    )
    assert ran(anna) == set()


def test_what_a_disabled_worker_has_goes_elsewhere_at_once(single: World) -> None:
    anna = single.worker("anna")
    task = single.submit("single")
    single.tick()
    assert ran(anna) == {task}
    berta = single.worker("berta")
    manage(single, "anna", ManageAction.DISABLE)
    single.tick()
    assert ran(berta) == {task}
    anna.silent = True
    single.run()


def test_a_decision_outlives_the_session_and_the_daemon(single: World) -> None:
    single.worker("anna")
    manage(single, "anna", ManageAction.DISABLE)
    single.restart()
    again = single.worker("anna")
    single.submit("single")
    single.wait(30)
    assert again.requests == []
    manage(single, "anna", ManageAction.ENABLE)
    single.run()
    assert again.requests


def test_who_decided_and_why_is_kept(single: World) -> None:
    single.worker("anna")
    manage(single, "anna", ManageAction.DISABLE)
    with single.engine.connect() as connection:
        row = connection.execute(text("SELECT mode, mode_by, mode_why FROM tasker_workers")).one()
    assert tuple(row) == ("disabled", "olga", "because")


@pytest.mark.parametrize(
    "target",
    [
        PinTarget(named_task=f"{NAMESPACE}/single"),
        PinTarget(named_task=f"{NAMESPACE}/single@1.0.0"),
        PinTarget(handler_class="tests.work"),
    ],
)
def test_pinned_steps_go_to_that_worker_alone(single: World, target: PinTarget) -> None:
    anna, berta = single.worker("anna"), single.worker("berta")
    manage(single, "berta", ManageAction.PIN, pin=target)
    tasks = set(single.submit_many("single", 6))
    single.run()
    assert ran(berta) == tasks
    assert ran(anna) == set()
    manage(single, "berta", ManageAction.UNPIN)
    single.submit_many("single", 6)
    single.run()
    assert ran(anna)


def test_one_task_may_be_pinned_though_its_steps_wait_already(single: World) -> None:
    first, second = single.submit("single"), single.submit("single")
    single.tick()
    anna = single.worker("anna", subscribed=False)
    manage(single, "anna", ManageAction.PIN, pin=PinTarget(task_id=second))
    berta = single.worker("berta")
    single.tick()
    assert ran(berta) == {first}
    single.subscribe(anna)
    single.run()
    assert ran(anna) == {second}


def test_a_pin_overrules_what_the_worker_declared(single: World) -> None:
    mine = SupportedTask(namespace=NAMESPACE, name="other", version="*")
    anna = single.worker("anna", supported_tasks=(mine,), exclusive=True)
    pin = PinTarget(named_task=f"{NAMESPACE}/single")
    assert manage(single, "anna", ManageAction.PIN, pin=pin)["pins"] == [
        {"named_task": f"{NAMESPACE}/single", "handler_class": None, "task_id": None}
    ]
    task = single.submit("single")
    single.run()
    assert ran(anna) == {task}


@pytest.mark.parametrize("told", [True, False])
def test_another_core_obeys_when_told_and_when_it_looks(
    single: World, make_world: MakeWorld, manual_clock: ManualClock, *, told: bool
) -> None:
    other = make_world(core_id="core-2", seed=2)
    anna = other.worker("anna")
    manage(single, "anna", ManageAction.DRAIN)
    if told:
        other.tick(WorkersManaged())
    else:
        other.wait(other.tuning.sweep_seconds)
    other.submit("single")
    other.wait(4)
    assert anna.requests == []
    manage(single, "anna", ManageAction.ENABLE)
    other.tick(WorkersManaged())
    other.run()


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        ({"worker_name": "ana"}, "not_found", "no worker 'ana' has ever registered"),
        ({"by": " "}, "invalid", "'by' is empty"),
        ({"action": "pin"}, "invalid", "a pin names one of named_task"),
        (
            {"action": "pin", "pin": PinTarget(named_task="single")},
            "invalid",
            "wanted: namespace/name[@version]",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    single: World, request_: dict[str, Any], code: str, said: str
) -> None:
    single.worker("anna")
    fields = {"worker_name": "anna", "action": ManageAction.DRAIN, "by": "olga", **request_}
    fields["action"] = ManageAction(fields["action"])
    error = refusal(single.ask("ManageWorker", ManageWorker(**fields)))
    assert (error["code"], said in error["message"]) == (code, True)


def refusal(reply: Command) -> dict[str, Any]:
    assert reply.payload.type == "Error"
    return dict(orjson.loads(bytes(reply.payload.data)))


def pinged(world: World) -> list[Command]:
    return [each for route, each in world.letters if route == (b"client",)]


def test_a_ping_is_answered_with_the_next_heartbeat(single: World) -> None:
    anna = single.worker("anna")
    single.letters.clear()
    single.tick(single.command("PingWorker", PingWorker(worker_name="anna")))
    assert [each.command_type for route, each in single.letters if route == anna.route] == ["Ping"]
    assert pinged(single) == []
    single.clock.advance(0.25)
    single.tick(*single.beats())
    (reply,) = pinged(single)
    told = orjson.loads(bytes(reply.payload.data))
    assert (told["worker_name"], told["core_id"]) == ("anna", "core-1")
    assert told["round_trip_ms"] == pytest.approx(250)


def test_a_worker_that_is_silent_is_reported_when_the_time_is_over(single: World) -> None:
    anna = single.worker("anna")
    anna.silent = True
    single.letters.clear()
    single.tick(single.command("PingWorker", PingWorker(worker_name="anna", timeout_ms=1_000)))
    single.wait(1.1)
    (reply,) = pinged(single)
    assert refusal(reply)["code"] == "unreachable"


def test_a_worker_of_another_core_is_asked_there(single: World, make_world: MakeWorld) -> None:
    other = make_world(core_id="core-2", seed=2)
    other.worker("anna")
    error = refusal(single.ask("PingWorker", PingWorker(worker_name="anna")))
    assert (error["code"], "connected to core-2" in error["message"]) == ("elsewhere", True)
    error = refusal(single.ask("PingWorker", PingWorker(worker_name="nobody")))
    assert error["code"] == "not_found"
