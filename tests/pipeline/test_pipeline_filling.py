"""Tasks that `bench --filled` copies are as if they had run; that no invariant breaks, too."""

from collections import Counter

from tasker_zmq.cli.benchmark.filling import TABLES, copy
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import MakeWorld

PATTERN, COPIES = 3, 4


def counted(world: World) -> Counter[str]:
    question = "SELECT count(*) FROM {}"
    return Counter({table: world.rows(question.format(table))[0][0] for table in TABLES})


def filled(make_world: MakeWorld) -> World:
    world = make_world()
    world.publish(template("chain", {"first": Node(), "second": Node(after=("first",))}))
    world.worker("anna", concurrency=4)
    world.submit_many("chain", PATTERN)
    world.run()
    return world


def copied(world: World) -> None:
    with world.engine.connect() as connection:
        copy(connection, COPIES, between=lambda: None)


def test_every_table_has_the_rows_of_as_many_more_finished_tasks(make_world: MakeWorld) -> None:
    world = filled(make_world)
    before = counted(world)
    assert all(before.values())
    copied(world)
    assert counted(world) == {table: rows * (COPIES + 1) for table, rows in before.items()}
    states = world.rows("SELECT DISTINCT state, completed_at IS NULL FROM tasker_tasks")
    assert [tuple(each) for each in states] == [("complete", False)]


def test_copies_are_older_by_id_than_anything_that_comes(make_world: MakeWorld) -> None:
    world = filled(make_world)
    copied(world)
    newest = world.rows("SELECT max(task_id) FROM tasker_tasks")[0][0]
    assert world.submit("chain") > newest
    world.run()
    assert world.at_rest


def test_edges_lead_to_steps_of_the_same_copy(make_world: MakeWorld) -> None:
    world = filled(make_world)
    copied(world)
    across = world.rows(
        "SELECT a.task_id, b.task_id FROM tasker_workflow_step_edges e "
        "LEFT JOIN tasker_workflow_steps a ON a.workflow_step_id = e.from_step_id "
        "LEFT JOIN tasker_workflow_steps b ON b.workflow_step_id = e.to_step_id "
        "WHERE a.task_id IS DISTINCT FROM b.task_id OR a.task_id IS NULL"
    )
    assert across == []
