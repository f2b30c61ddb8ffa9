"""A daemon that was stopped, or is unsure of a commit, draws no false conclusion."""

from datetime import timedelta

from tasker_zmq.pipeline.inbox import Received
from tasker_zmq.pipeline.upkeep import forgive_absence
from tasker_zmq.testing.world import Node, World, template

PAIR = {"a": Node(), "b": Node(after=("a",))}


def commit_unknowingly(world: World, *received: Received) -> None:
    """The tick's commit takes place, and the daemon never learns of it."""
    with world.engine.begin() as connection:
        world.ticking.run(connection, received, world.clock.now())
    world.state.contents.clear()
    world.state.unsure = True


def absent(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    forgive_absence(world.state, timedelta(seconds=seconds), world.clock.now())


def test_a_batch_whose_commit_was_not_known_to_succeed_is_sent_in_another(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker()
    command = world.command("InitializeTask", world.request("pair"), command_id="one")
    commit_unknowingly(world, command)
    world.tick(command)
    world.run()
    (task,) = world.rows("SELECT task_id, state FROM tasker_tasks")
    assert task.state == "complete"
    assert [request.step_name for request in worker.requests] == ["a", "b"]
    assert [row.state for row in world.batches()] == ["orphaned", "completed", "completed"]
    assert all(step.losses == 0 for step in world.steps(task.task_id).values())


def test_results_whose_commit_was_not_known_to_succeed_are_duplicates_and_work_goes_on(
    world: World,
) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker()
    task = world.submit("pair")
    frames = world.work()
    commit_unknowingly(world, *frames)
    world.tick(*frames)
    assert world.verdicts() == ["applied", "applied", "duplicate", "duplicate"]
    world.run()
    assert world.task(task).state == "complete"
    assert [request.step_name for request in worker.requests] == ["a", "b"]
    assert world.session(worker).holding == {}


def test_a_commit_that_did_not_happen_leaves_nothing_to_look_up(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker()
    task = world.submit("pair")
    world.state.unsure = True
    world.run()
    assert not world.state.unsure
    assert world.task(task).state == "complete"
    assert [request.step_name for request in worker.requests] == ["a", "b"]


def test_nobody_is_lost_because_the_daemon_was_away(world: World) -> None:
    world.publish(template("pair", PAIR))
    worker = world.worker()
    task = world.submit("pair")
    absent(world, 3_600)
    world.tick()
    assert list(world.state.sessions) == [worker.session_id]
    world.run()
    assert world.task(task).state == "complete"
    assert all(step.attempts == 1 for step in world.steps(task).values())


def test_who_stays_silent_after_the_daemon_came_back_is_lost_then(world: World) -> None:
    world.publish(template("pair", PAIR))
    anna = world.worker("anna")
    task = world.submit("pair")
    anna.silent = True
    absent(world, 60)
    world.wait(world.tuning.session_dead_seconds - 1)
    assert anna.session_id in world.state.sessions
    bert = world.worker("bert")
    world.wait(2)
    assert anna.session_id not in world.state.sessions
    world.run()
    assert world.task(task).state == "complete"
    assert len(bert.requests) == 2


def test_a_result_is_a_sign_of_life(world: World) -> None:
    world.publish(template("wide", {f"s{n}": Node() for n in range(3)}))
    anna = world.worker("anna")
    world.submit("wide")
    batch = anna.batch()
    frames = anna.answers(batch)
    for frame in frames[:3]:
        world.clock.advance(world.tuning.session_dead_seconds - 1)
        world.tick(frame)
    assert anna.session_id in world.state.sessions
    world.tick(frames[-1])
    world.run()


def test_a_deadline_that_passed_while_no_daemon_ran_is_put_off(world: World) -> None:
    world.publish(template("slow", {"a": Node(timeout_seconds=1)}))
    worker = world.worker()
    task = world.submit("slow")
    batch = worker.batch()
    world.clock.advance(60)
    world.restart()
    world.tick()
    assert world.states(task) == {"a": "in_progress"}
    world.tick(*worker.answers(batch))
    assert world.task(task).state == "complete"
    world.run()
