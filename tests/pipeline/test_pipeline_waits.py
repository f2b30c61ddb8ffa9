"""Who waits for a task is answered once it has ended, and in no case later than he said."""

from collections.abc import Iterator
from queue import SimpleQueue

import msgspec
import pytest
from sqlalchemy import Engine, create_engine

from tasker_zmq.clock import SystemClock
from tasker_zmq.commands.answering import read
from tasker_zmq.daemon.waits import WAITING_MAX, Waits
from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ErrorData, TaskStates
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.testing.simulated_worker import failing
from tasker_zmq.testing.world import Node, World, template

LONG = 30.0  # nobody waits so long in a test
MOMENT = 0.01


class Waiters:
    """Those who ask, and the letters that they get."""

    def __init__(self, world: World, *, database: Engine | None = None) -> None:
        self.letters: SimpleQueue[Letter] = SimpleQueue()
        self.world = world
        self.waits = Waits(
            database or world.engine,
            clock=SystemClock(),
            core_id="core-1",
            send=self.letters.put,
        )

    def ask(self, *task_ids: int, seconds: float = LONG) -> None:
        question = {"task_ids": task_ids, "wait_seconds": seconds}
        received = self.world.command("GetTaskStates", question)
        found = read(received, WireLimits(), by=Answerer("core-1", SystemClock().now()))
        assert not isinstance(found, Letter)
        self.waits.ask(*found)

    def answer(self) -> dict[int, str]:
        """The next answer: how the tasks stand."""
        reply = codec.decode_command(self.letters.get(timeout=LONG).body, WireLimits())
        if reply.payload.type == "Error":
            return {0: codec.decode_data(reply.payload.data, ErrorData).code}
        found = msgspec.json.decode(reply.payload.data, type=TaskStates).states
        return {each.task_id: each.state.value for each in found}

    def run(self, ticks: int = 4) -> None:
        """So many ticks with all that workers say; who waits is told as by the daemon."""
        for _ in range(ticks):
            self.waits.tell(self.world.tick(*self.world.work()).ended)


@pytest.fixture
def waiters(world: World) -> Iterator[Waiters]:
    world.publish(template("pair", {"a": Node(), "b": Node(after=("a",))}))
    found = Waiters(world)
    found.waits.start()
    yield found
    found.waits.stop()


def test_the_answer_comes_with_the_end_of_a_task(world: World, waiters: Waiters) -> None:
    first, second = world.submit("pair"), world.submit("pair")
    waiters.ask(first, second)
    waiters.ask(second)
    world.worker(concurrency=2)
    waiters.run()
    answers = [waiters.answer(), waiters.answer()]
    assert {second: "complete"} in answers
    assert {first: "complete", second: "complete"} in answers
    assert waiters.letters.empty()


def test_a_task_that_fails_has_ended_too(world: World, waiters: Waiters) -> None:
    task = world.submit("pair")
    waiters.ask(task)
    world.worker(handler=lambda _: failing(retryable=False))
    waiters.run()
    assert waiters.answer() == {task: "error"}


def test_what_has_ended_or_is_not_there_is_told_at_once(world: World, waiters: Waiters) -> None:
    task = world.submit("pair")
    waiters.ask(task, 999)
    assert waiters.answer() == {task: "pending"}
    world.worker()
    world.run()
    waiters.ask(task)
    assert waiters.answer() == {task: "complete"}


def test_nobody_waits_longer_than_he_said_nor_for_a_daemon_that_stops(
    world: World, waiters: Waiters
) -> None:
    task = world.submit("pair")
    waiters.ask(task, seconds=MOMENT)
    assert waiters.answer() == {task: "pending"}
    waiters.ask(task)
    waiters.waits.stop()
    assert waiters.answer() == {task: "pending"}


def test_who_asks_for_too_much_is_refused_and_too_many_do_not_wait(
    world: World, waiters: Waiters
) -> None:
    waiters.ask(*range(1, 1_002))
    assert waiters.answer() == {0: "invalid"}
    task = TaskId(world.submit("pair"))
    for _ in range(WAITING_MAX):
        waiters.ask(task)
    waiters.ask(task)
    assert waiters.answer() == {task: "pending"}
    assert waiters.letters.empty()


def test_who_waits_is_told_that_the_rows_cannot_be_read(world: World) -> None:
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    waiters = Waiters(world, database=nowhere)
    waiters.waits.start()
    waiters.ask(1)
    assert waiters.answer() == {0: "database_away"}
    waiters.waits.stop()
