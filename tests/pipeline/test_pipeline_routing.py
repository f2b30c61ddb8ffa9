"""`worker_routing`: a task for one worker alone, obeyed in rows; what cannot be is refused."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import event

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import ReceivedCommand
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ERROR, Command
from tasker_zmq.protocol.workers import ManageAction, ManageWorker, PinTarget
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import CLIENT, NAMESPACE, Node, World, template
from tests.pipeline.conftest import MakeWorld

CHAIN = template("chain", {"first": Node(), "second": Node(after=("first",))})


def routed(world: World, kind: str, payload: bytes, routing: dict[str, Any]) -> ReceivedCommand:
    received = world.command(kind, payload)
    command = msgspec.json.decode(received.body, type=Command)
    changed = msgspec.structs.replace(command, worker_routing=codec.raw(routing))
    return ReceivedCommand(CLIENT, codec.encode(changed))


def told(world: World, kind: str, payload: bytes, **routing: Any) -> dict[str, Any]:
    before = len(world.letters)
    world.tick(routed(world, kind, payload, routing))
    (reply,) = [reply for route, reply in world.letters[before:] if route == CLIENT]
    found = dict(msgspec.json.decode(reply.payload.data))
    return {**found, "refused": reply.payload.type == ERROR}


def submit(world: World, **routing: Any) -> TaskId:
    found = told(world, "InitializeTask", world.request("chain"), **routing)
    assert not found["refused"], found
    return TaskId(found["task_id"])


def ran(worker: SimulatedWorker) -> set[int]:
    return {int(each.task_id) for each in worker.requests}


def pins(world: World) -> list[tuple[str, int]]:
    found = world.rows(
        "SELECT worker_name, task_id FROM tasker_worker_pins JOIN tasker_workers USING (worker_id)"
    )
    return sorted((row.worker_name, row.task_id) for row in found)


def test_all_steps_of_a_routed_task_go_to_its_worker_at_once(world: World) -> None:
    world.publish(CHAIN)
    anna, bert = world.worker("anna"), world.worker("bert")
    found = told(world, "InitializeTask", world.request("chain"), target_worker_id="bert")
    task_id = found["task_id"]
    assert found["candidate_workers"] == ["bert"]
    assert (anna.requests, bert.requests) == ([], [])
    world.tick()  # as the engine makes it: the steps are due
    assert (ran(anna), ran(bert)) == (set(), {task_id})
    other = world.submit("chain")
    world.run()
    assert world.task(TaskId(task_id)).state == "complete"
    assert task_id not in ran(anna)
    assert len([each for each in bert.requests if each.task_id == task_id]) == 2
    assert other in ran(anna) | ran(bert)


def test_many_routed_tasks_of_one_tick_go_each_to_its_own(world: World) -> None:
    world.publish(CHAIN)
    workers = {name: world.worker(name) for name in ("anna", "bert")}
    payload = world.request("chain")
    wanted = ["anna", "bert", "bert", "anna"]
    before = len(world.letters)
    world.tick(
        *(routed(world, "InitializeTask", payload, {"target_worker_id": name}) for name in wanted),
        world.command("InitializeTask", payload),
    )
    task_ids = [
        msgspec.json.decode(reply.payload.data)["task_id"] for _, reply in world.letters[before:]
    ]
    world.run()
    for name, task_id in zip(wanted, task_ids, strict=False):
        assert [each for each, worker in workers.items() if task_id in ran(worker)] == [name]


def test_a_routed_task_waits_for_its_worker_also_through_a_restart(world: World) -> None:
    world.publish(CHAIN)
    anna = world.worker("anna")
    task_id = submit(world, target_worker_id="anna")
    world.restart()
    bert = world.worker("bert")
    world.wait(40)
    assert bert.requests == []
    again = world.worker("anna")
    world.run()
    assert (ran(again), ran(bert), ran(anna)) == ({task_id}, set(), set())


def test_a_core_that_takes_a_routed_task_over_obeys_it(make_world: MakeWorld) -> None:
    first, second = make_world(core_id="first"), make_world(core_id="second", seed=2)
    first.publish(CHAIN)
    first.worker("bert", subscribed=False)
    task_id = submit(first, target_worker_id="bert")
    anna, bert = second.worker("anna"), second.worker("bert")
    second.wait(first.tuning.core_lease_seconds + second.tuning.sweep_seconds + 1)
    second.run()
    assert (ran(anna), ran(bert)) == (set(), {task_id})


def test_the_pin_of_a_routed_task_is_forgotten_when_that_is_over(world: World) -> None:
    world.publish(CHAIN)
    world.worker("anna")
    worker_id = world.rows("SELECT worker_id FROM tasker_workers")[0].worker_id
    task_id = submit(world, target_worker_id=worker_id)
    assert pins(world) == [("anna", task_id)]
    kept = world.rows("SELECT decided_by, why FROM tasker_worker_pins")[0]
    assert kept.why.startswith("worker_routing of command command-")
    world.run()
    world.wait(world.tuning.sweep_seconds + 1)
    assert pins(world) == []


def test_an_existing_task_is_given_to_the_worker_that_execute_workflow_prefers(
    world: World,
) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain", scheduled_for="2031-01-01T00:00:00Z")
    anna, bert = world.worker("anna"), world.worker("bert")
    wanted = {"task_id": task_id, "worker_preferences": {"target_worker_id": "bert"}}
    found = told(world, "ExecuteWorkflow", codec.encode(wanted), target_worker_id="anna")
    assert (found["outcome"], found["ready_steps"]) == ("started_early", 1)
    world.run()
    assert (ran(anna), ran(bert)) == (set(), {task_id})


def test_a_task_that_people_pinned_to_another_is_not_taken_from_him(world: World) -> None:
    world.publish(CHAIN)
    task_id = world.submit("chain")
    world.worker("anna", subscribed=False)
    world.worker("bert")
    pin = PinTarget(task_id=task_id)
    asked = ManageWorker(worker_name="bert", action=ManageAction.PIN, pin=pin, by="ann")
    assert world.ask("ManageWorker", asked).payload.type != ERROR
    wanted = codec.encode({"task_id": task_id})
    found = told(world, "ExecuteWorkflow", wanted, target_worker_id="anna")
    assert (found["code"], "is pinned to bert" in found["message"]) == ("unroutable", True)
    world.run()


@pytest.mark.parametrize(
    ("routing", "code", "said"),
    [
        ({"target_worker_id": "ana"}, "not_found", "no worker 'ana'"),
        ({"target_worker_id": 999}, "not_found", "no worker '999'"),
        ({"target_worker_id": {}}, "invalid", "worker_routing"),
        ({"namespace_requirements": ["others"]}, "unroutable", "only 'tests' can be required"),
        ({"selection_strategy": "round_robin"}, "unroutable", "chooses by least_loaded"),
        ({"selection_strategy": "psychic"}, "unroutable", "chooses by least_loaded"),
        ({"connection_preference": "tcp"}, "unroutable", "reaches its workers by inproc"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_a_sentence(
    world: World, routing: dict[str, Any], code: str, said: str
) -> None:
    world.publish(CHAIN)
    world.worker("anna")
    found = told(world, "InitializeTask", world.request("chain"), **routing)
    assert (found["code"], said in found["message"]) == (code, True), found
    assert not world.rows("SELECT 1 FROM tasker_tasks")


def test_what_holds_anyway_is_no_reason_to_refuse(world: World) -> None:
    world.publish(CHAIN)
    world.worker("anna")
    submit(
        world,
        namespace_requirements=[NAMESPACE],
        selection_strategy="least_loaded",
        connection_preference="inproc",
    )
    assert pins(world) == []
    world.run()


def test_a_routing_of_other_commands_is_refused_unless_it_is_empty(world: World) -> None:
    world.publish(CHAIN)
    world.worker("anna")
    found = told(world, "DiscoverReadyTasks", b"{}", target_worker_id="anna")
    assert (found["code"], "DiscoverReadyTasks" in found["message"]) == ("unroutable", True)
    assert not told(world, "DiscoverReadyTasks", b"{}", target_worker_id=None)["refused"]


def test_a_task_without_routing_asks_nothing_about_pins(world: World) -> None:
    world.publish(CHAIN)
    world.worker("anna")
    world.tick()
    asked: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(world.engine, "before_cursor_execute", note)
    try:
        world.submit("chain")
        plain = [each for each in asked if "tasker_worker" in each]
        submit(world, target_worker_id="anna")
        routed_ones = [each for each in asked if "tasker_worker_pins" in each]
    finally:
        event.remove(world.engine, "before_cursor_execute", note)
    assert (plain, bool(routed_ones)) == ([], True)
    world.run()
