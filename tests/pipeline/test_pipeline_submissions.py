"""Tasks that SQL asks for: made once, by one core; refused with the reason; never before time."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tasker_zmq.pipeline.inbox import SubmissionsNotified
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

SCHEMA = {"type": "object", "required": ["order_id"]}
ONE = template("one", {"a": Node()})
CHECKED = template("checked", {"a": Node()}, input_schema=SCHEMA)
CALL = "SELECT tasker_submit_task('tests/{}', {})"


def ask(engine: Engine, arguments: str = "'{}'", *, workflow: str = "one") -> int:
    with engine.begin() as connection:
        return int(connection.execute(text(CALL.format(workflow, arguments))).scalar_one())


def submissions(world: World) -> list[Any]:
    return list(world.rows("SELECT task_id, refusal FROM tasker_submissions ORDER BY task_id"))


def test_what_sql_asks_for_is_made_and_run(world: World) -> None:
    world.publish(ONE)
    worker = world.worker()
    task_id = ask(
        world.engine,
        "'{\"number\": 1}', identity => 'i-1', priority => 4, tags => '{red}', reason => 'why'",
    )
    world.tick(SubmissionsNotified())
    world.run()
    (request,) = worker.requests
    assert (request.task_id, bytes(request.task_context)) == (task_id, b'{"number": 1}')
    task = world.task(task_id)  # type: ignore[arg-type]
    assert (task.state, task.identity, task.priority) == ("complete", "i-1", 4)
    assert (task.tags, task.reason, task.source_system) == (["red"], "why", "sql")
    assert submissions(world) == []


def test_without_a_word_from_postgresql_it_is_found_all_the_same(world: World) -> None:
    world.publish(ONE)
    world.worker()
    world.tick()
    task_id = ask(world.engine)
    world.wait(world.tuning.sweep_seconds + 1)
    world.run()
    assert world.task(task_id).state == "complete"  # type: ignore[arg-type]


def test_what_is_rolled_back_was_never_asked_for(world: World) -> None:
    world.publish(ONE)
    with world.engine.connect() as connection:
        connection.execute(text(CALL.format("one", "'{}'")))
        connection.rollback()
    world.tick(SubmissionsNotified())
    assert world.rows("SELECT 1 FROM tasker_tasks") == []


def test_one_identity_is_one_task_whoever_asks(world: World) -> None:
    world.publish(ONE)
    first = ask(world.engine, "'{}', identity => 'same'")
    assert ask(world.engine, "'{}', identity => 'same'") == first
    world.tick(SubmissionsNotified())
    assert ask(world.engine, "'{}', identity => 'same'") == first
    assert world.submit("one", identity="same") == first
    assert submissions(world) == []
    assert ask(world.engine) != ask(world.engine)


def test_an_identity_that_was_taken_meanwhile_is_told(world: World) -> None:
    world.publish(ONE)
    other = ask(world.engine, "'{}', identity => 'same'")
    with world.engine.begin() as connection:  # as when both asked in the same moment
        connection.execute(text("UPDATE tasker_submissions SET due_at = '2100-1-1'"))
    world.submit("one", identity="same")
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE tasker_submissions SET due_at = '-infinity'"))
    world.tick(SubmissionsNotified())
    assert submissions(world) == [(other, "a task with the identity 'same' is there")]


def test_a_context_that_does_not_fit_is_refused_and_stops_no_other(world: World) -> None:
    world.publish(ONE, CHECKED)
    refused = ask(world.engine, workflow="checked")
    made = ask(world.engine, "'{\"order_id\": 1}'", workflow="checked")
    world.tick(SubmissionsNotified())
    ((task_id, refusal),) = submissions(world)
    assert task_id == refused
    assert "'order_id' is a required property" in refusal
    assert world.task(made).state == "pending"  # type: ignore[arg-type]
    world.tick(SubmissionsNotified())
    assert len(submissions(world)) == 1


def test_nothing_is_made_before_its_time(world: World) -> None:
    world.publish(ONE)
    later = world.clock.now() + timedelta(seconds=60)
    task_id = ask(world.engine, f"'{{}}', scheduled_for => '{later.isoformat()}'")
    world.tick(SubmissionsNotified())
    world.wait(58)
    assert world.rows("SELECT 1 FROM tasker_tasks") == []
    world.wait(2.5)
    assert world.task(task_id).state == "pending"  # type: ignore[arg-type]


def test_two_cores_share_what_is_asked_for(make_world: MakeWorld) -> None:
    first, second = make_world(), make_world(core_id="core-2")
    first.publish(ONE)
    wanted = {ask(first.engine) for _ in range(20)}
    for world in (first, second, first, second):
        world.tick(SubmissionsNotified())
    made = first.rows("SELECT task_id FROM tasker_tasks")
    assert {row.task_id for row in made} == wanted
    assert len(made) == 20


def test_a_core_that_drains_leaves_it_to_others(world: World) -> None:
    world.publish(ONE)
    ask(world.engine)
    world.state.draining = True
    world.tick(SubmissionsNotified())
    assert len(submissions(world)) == 1


@pytest.mark.parametrize(
    ("workflow", "arguments", "said"),
    [
        ("nothing", "'{}'", "no workflow 'tests/nothing' is published"),
        ("one@9.9.9", "'{}'", "no workflow 'tests/one@9.9.9' is published"),
        ("one", "'[1]'", "the context must be a JSON object, not array"),
        ("one", "NULL", "the context must be a JSON object, not null"),
        ("one", "'{}', identity => repeat('x', 501)", "the identity has 501 characters"),
        ("one", "'{}', identity => ''", "the identity has 0 characters"),
        ("one", "'{}', priority => 1000001", "the priority is 1000001"),
        ("one", "'{}', scheduled_for => 'infinity'", "scheduled_for is infinity"),
        ("one", "'{}', scheduled_for => '20000-1-1'", "scheduled_for is 20000-01-01"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    world: World, workflow: str, arguments: str, said: str
) -> None:
    world.publish(ONE)
    with pytest.raises(DBAPIError, match=said):
        ask(world.engine, arguments, workflow=workflow)
    assert submissions(world) == []


def test_whoever_may_call_the_function_needs_no_table(world: World) -> None:
    world.publish(ONE)
    with world.engine.connect() as connection:
        connection.execute(text("CREATE ROLE tasker_tests_caller"))
        connection.execute(text("SET LOCAL ROLE tasker_tests_caller"))
        assert connection.execute(text(CALL.format("one", "'{}'"))).scalar_one() > 0
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text("SELECT * FROM tasker_submissions"))
        connection.rollback()
