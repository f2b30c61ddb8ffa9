"""What workers declare: who is exclusive, which version, the priority, and the configuration."""

import random
from typing import Any

import msgspec
import orjson
import pytest
from sqlalchemy import text

from tasker_zmq.domain.ids import HandlerClass
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.domain.selection import STRATEGIES
from tasker_zmq.domain.supported import PRIORITY
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol.commands import RegisterWorker, SupportedTask, WorkerMetadata
from tasker_zmq.testing.simulated_worker import SimulatedWorker
from tasker_zmq.testing.world import NAMESPACE, VERSION, Node, World, template
from tests.pipeline.conftest import MakeWorld


def publish(world: World, *names: str, version: str = VERSION) -> None:
    world.publish(*({**template(name, {"a": Node()}), "version": version} for name in names))


def task(name: str, version: str = VERSION, **more: Any) -> SupportedTask:
    return SupportedTask(namespace=NAMESPACE, name=name, version=version, **more)


def exclusive(world: World, name: str, *tasks: SupportedTask, **more: Any) -> SimulatedWorker:
    return world.worker(name, supported_tasks=tasks, exclusive=True, **more)


def ran(worker: SimulatedWorker) -> set[int]:
    return {int(each.task_id) for each in worker.requests}


def known(world: World, worker: str) -> set[str]:
    query = text(
        "SELECT t.name || '@' || t.version FROM tasker_worker_named_tasks "
        "JOIN tasker_workers USING (worker_id) JOIN tasker_named_tasks t USING (named_task_id) "
        "WHERE worker_name = :worker"
    )
    with world.engine.connect() as connection:
        return set(connection.execute(query, {"worker": worker}).scalars())


def test_an_exclusive_worker_gets_steps_of_its_tasks_and_of_no_others(world: World) -> None:
    publish(world, "mine", "other")
    anna = exclusive(world, "anna", task("mine"))
    mine, other = world.submit("mine"), world.submit("other")
    world.wait(30)
    assert ran(anna) == {mine}
    berta = world.worker("berta")
    world.run()
    assert other in ran(berta)


def test_a_worker_that_is_not_exclusive_is_found_by_its_handlers(world: World) -> None:
    publish(world, "mine", "other")
    anna = world.worker("anna", supported_tasks=(task("mine"),))
    tasks = {world.submit("mine"), world.submit("other")}
    world.run()
    assert ran(anna) == tasks


def test_a_version_is_meant_exactly_unless_any_is_said(world: World) -> None:
    publish(world, "mine")
    publish(world, "mine", version="2.0.0")
    anna = exclusive(world, "anna", task("mine", "2.0.0"))
    berta = exclusive(world, "berta", task("mine", "*"))
    anna.silent = True
    old, new = world.submit("mine"), world.submit("mine", version="2.0.0")
    world.tick()
    assert old not in ran(anna)
    assert old in ran(berta)
    assert new in ran(anna) | ran(berta)
    assert known(world, "anna") == {"mine@2.0.0"}
    assert known(world, "berta") == {"mine@1.0.0", "mine@2.0.0"}


def test_a_task_published_after_the_worker_registered_is_known_to_it(world: World) -> None:
    anna = exclusive(world, "anna", task("mine"), task("wild", "*"))
    publish(world, "mine", "other")
    publish(world, "wild", version="7")
    assert known(world, "anna") == {"mine@1.0.0", "wild@7"}
    tasks = {world.submit("mine"), world.submit("wild", version="7")}
    world.run()
    assert ran(anna) == tasks


def test_what_a_worker_declares_no_more_is_forgotten(world: World) -> None:
    publish(world, "mine", "other")
    exclusive(world, "anna", task("mine"), task("other"))
    exclusive(world, "anna", task("other"))
    assert known(world, "anna") == {"other@1.0.0"}


def test_an_exclusive_worker_may_leave_its_handlers_unsaid(world: World) -> None:
    publish(world, "mine")
    anna = exclusive(world, "anna", task("mine"), handlers=())
    mine = world.submit("mine")
    world.run()
    assert ran(anna) == {mine}


def test_a_step_that_no_worker_takes_delays_none_of_the_same_handler(world: World) -> None:
    publish(world, "mine", "other")
    anna = exclusive(world, "anna", task("mine"), concurrency=1)
    world.submit_many("other", 30)
    mine = world.submit_many("mine", 5)
    while ran(anna) != set(mine):
        world.tick(*world.work(), *world.beats())
    world.worker("berta")
    world.run()


def test_the_configuration_travels_with_the_work_and_only_there(world: World) -> None:
    publish(world, "mine", "other")
    anna = world.worker("anna", supported_tasks=(task("mine", configuration={"region": "eu"}),))
    mine, _ = world.submit("mine"), world.submit("other")
    world.run()
    for each in anna.requests:
        if each.task_id == mine:
            assert isinstance(each.worker_configuration, msgspec.Raw)
            assert bytes(each.worker_configuration) == b'{"region":"eu"}'
        else:
            assert each.worker_configuration is msgspec.UNSET


@pytest.mark.parametrize(("strategy", "share"), [("priority", 20), ("least_loaded", 10)])
def test_the_strategy_decides_what_a_declared_priority_is_worth(
    make_world: MakeWorld, strategy: str, share: int
) -> None:
    world = make_world(tuning=Tuning(strategy=STRATEGIES[strategy]))
    publish(world, "mine")
    world.worker("anna", supported_tasks=(task("mine", priority=1),))
    berta = world.worker("berta", supported_tasks=(task("mine", priority=200),))
    world.submit_many("mine", 20)
    world.tick()
    assert len(berta.requests) == share
    world.run()


def test_in_turn_sessions_share_what_comes_one_by_one(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(strategy=STRATEGIES["round_robin"]))
    publish(world, "mine")
    workers = [world.worker(name) for name in ("anna", "berta", "carla")]
    for _ in range(6):
        world.submit("mine")
        world.run()
    assert [len(each.requests) for each in workers] == [2, 2, 2]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"exclusive": True}, "would never get work"),
        (
            {"supported_tasks": (task("big", configuration={"x": "y" * 20_000}),)},
            "at most 16384 travel with the work",
        ),
        ({"supported_tasks": (task("far", priority=10_000_000),)}, "wanted: -1000000 to 1000000"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(
    world: World, request_: dict[str, Any], said: str
) -> None:
    asked = RegisterWorker(
        worker_name="anna", handlers=("tests.work",), metadata=WorkerMetadata(), **request_
    )
    reply = world.ask("RegisterWorker", asked)
    assert reply.payload.type == "Error"
    assert said in orjson.loads(bytes(reply.payload.data))["message"]


def drawn_crowd(world: World, seed: int) -> None:
    """Six workflows of a few handlers, and workers of all sorts that know some of either."""
    dice = random.Random(seed)
    handlers = [f"tests.h{number}" for number in range(6)]
    names = [f"flow{number}" for number in range(6)]
    for name in names:
        nodes = {f"s{n}": Node(handler=dice.choice(handlers)) for n in range(dice.randint(1, 3))}
        world.publish(template(name, nodes))
    for number in range(24):
        known = [
            task(name, dice.choice([VERSION, "*", "9.9.9"]), priority=dice.choice([50, 100, 200]))
            for name in dice.sample(names, dice.randint(0, 3))
        ]
        world.worker(
            f"worker{number}",
            handlers=dice.sample(handlers, dice.randint(0, 2)),
            supported_tasks=tuple(known),
            exclusive=bool(known) and dice.random() < 0.5,
        )


@pytest.mark.parametrize("seed", range(3))
def test_sql_names_the_very_sessions_that_dispatch_would_choose_from(
    world: World, seed: int
) -> None:
    drawn_crowd(world, seed)
    handlers: dict[int, list[str]] = {}
    for row in world.rows(
        "SELECT named_task_id, handler_class FROM tasker_named_tasks_named_steps"
    ):
        handlers.setdefault(row.named_task_id, []).append(row.handler_class)
    for row in world.rows("SELECT named_task_id, name FROM tasker_named_tasks"):
        name = TaskName(NAMESPACE, row.name, VERSION)
        kinds = [
            Kind(HandlerClass(each), row.named_task_id) for each in handlers[row.named_task_id]
        ]
        wanted = {
            session.session_id: able.priorities.get(session.session_id, PRIORITY)
            for able in (world.state.sessions.able(kind, name) for kind in kinds)
            for session in able.sessions
        }
        told = world.rows(
            "SELECT session_id, priority FROM tasker_candidate_workers(:task, 'core-1', :now)",
            task=row.named_task_id,
            now=world.clock.now(),
        )
        assert {each.session_id: each.priority for each in told} == wanted
        assert [each.priority for each in told] == sorted(wanted.values(), reverse=True)
