"""Random workflows under random misfortune always come to an end, and break no invariant."""

import random
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.inbox import ReceivedResult
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol.messages import StepRequest
from tasker_zmq.store.reads.invariants import check_invariants
from tasker_zmq.testing import ManualClock
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word, failing
from tasker_zmq.testing.world import Node, World, template
from tests.pipeline.conftest import empty

HANDLERS = ("tests.red", "tests.blue")
STEPS_MAX = 9
ROUNDS = 12


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Node]:
    """Any DAG: each step may wait for any of those before it."""
    names = [f"s{number}" for number in range(draw(st.integers(1, STEPS_MAX)))]
    return {
        name: Node(
            after=tuple(draw(st.sets(st.sampled_from(names[:place])))) if place else (),
            handler=draw(st.sampled_from(HANDLERS)),
            retry={
                "retryable": draw(st.booleans()),
                "max_attempts": draw(st.integers(0, 3)),
                "backoff_base_ms": draw(st.sampled_from((0, 100, 2_000))),
            },
            timeout_seconds=5,
        )
        for place, name in enumerate(names)
    }


class Misfortune:
    """Loses, repeats, delays and reorders messages, kills workers, restarts the core."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self._delayed: list[ReceivedResult] = []
        self._born = 0

    def word(self, _: StepRequest) -> Word:
        roll = self._dice.random()
        if roll < 0.6:
            return Word(output={"rolled": roll})
        return failing(retryable=self._dice.choice((None, True, False)))

    def worker(self) -> SimulatedWorker:
        self._born += 1
        name = f"worker{self._born}-{self._world.state.epoch}"
        concurrency = self._dice.randint(1, 4)
        return self._world.worker(
            name, handlers=HANDLERS, handler=self.word, concurrency=concurrency
        )

    def round(self) -> None:
        frames = self._delayed
        self._delayed = []
        for frame in self._world.work():
            frames += [frame] * self._dice.choice((0, 1, 1, 1, 1, 2))
        self._dice.shuffle(frames)
        late = self._dice.randint(0, len(frames))
        self._delayed, now = frames[:late], frames[late:]
        self._world.tick(*now)
        self._dice.choice((self._pass_time, self._pass_time, self._kill, self._restart))()

    def _pass_time(self) -> None:
        self._world.wait(self._dice.choice((0.0, 0.3, 3.0, 12.0)))

    def _kill(self) -> None:
        living = [worker for worker in self._world.workers if not worker.silent]
        if living:
            self._dice.choice(living).silent = True
        self.worker()

    def _restart(self) -> None:
        self._world.restart()
        for worker in self._world.workers:
            worker.silent = True
        self.worker()

    def cease(self) -> None:
        """From now on everything arrives; what was delayed comes too."""
        self._world.tick(*self._delayed)
        self.worker()


def expected_end(world: World, task: TaskId, nodes: Mapping[str, Node]) -> None:
    """Every step is over, or can never begin, or waits for a person."""
    states = world.states(task)
    for name, state in states.items():
        if state == "pending":
            assert any(states[parent] != "complete" for parent in nodes[name].after), states
        else:
            assert state in {"complete", "error", "in_doubt"}, states
    ended = world.task(task).state
    if set(states.values()) == {"complete"}:
        assert ended == "complete"
    elif "in_doubt" in states.values():
        assert ended == "in_progress"
    else:
        assert ended == "error"


def finish(world: World) -> None:
    """Let everything that can end end; a step in doubt keeps its task open for ever."""
    for _ in range(400):
        frames: list[Any] = world.work()
        if not frames and world.quiet:
            return
        if frames:
            world.tick(*frames)
        else:
            world.wait(1)
    raise AssertionError(f"still open: {world.open_steps()}")


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(nodes=graphs(), seed=st.integers(0, 1 << 32), count=st.integers(1, 4))
def test_random_workflows_under_random_misfortune_end_and_break_no_invariant(
    engine: Engine, nodes: dict[str, Node], seed: int, count: int
) -> None:
    empty(engine)
    tuning = Tuning(batch_size=3, credit_factor=1.5, sweep_tasks_max=2)
    world = World(engine, ManualClock(), seed=seed, tuning=tuning, steps_max=5)
    world.publish(template("random", nodes))
    misfortune = Misfortune(world, random.Random(seed))
    misfortune.worker()
    tasks = world.submit_many("random", count)
    for _ in range(ROUNDS):
        misfortune.round()
    misfortune.cease()
    finish(world)
    for task in tasks:
        expected_end(world, task, nodes)
    with engine.connect() as connection:
        assert check_invariants(connection) == []
