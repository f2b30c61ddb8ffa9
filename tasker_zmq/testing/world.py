"""A daemon without threads and sockets: its ticks, on a real database, under a clock that is told.

What a test calls is what runs in production: frames go in, the tick decides in a transaction, and
what it wants sent is delivered to simulated workers after the commit.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson
from sqlalchemy import Engine, Row, text

from tasker_zmq.clock import IdMaker
from tasker_zmq.commands.answering import Answering
from tasker_zmq.commands.context import Desk
from tasker_zmq.domain.ids import CoreId, TaskId
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.pipeline import discover
from tasker_zmq.pipeline.inbox import (
    Outbox,
    Received,
    ReceivedCommand,
    ReceivedResult,
    SubscriptionSeen,
)
from tasker_zmq.pipeline.state import LEGACY_SESSION, CoreState, Session
from tasker_zmq.pipeline.tick import Tick, Ticked
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.pipeline.upkeep import next_due
from tasker_zmq.pipeline.viable import ViableSteps
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    SUCCESS,
    Command,
    DataPlane,
    Payload,
    PublishTemplates,
    RegisterWorker,
    ResultsRecorded,
    WorkerHeartbeat,
    WorkerMetadata,
    WorkerRegistered,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.tasks import TaskInitialized
from tasker_zmq.store import workers as worker_store
from tasker_zmq.testing.clock import ManualClock
from tasker_zmq.testing.simulated_worker import Handler, SimulatedWorker, Word
from tasker_zmq.testing.templates import NAMESPACE, VERSION, Node, template

__all__ = ["NAMESPACE", "VERSION", "Node", "StillOpenError", "Word", "World", "done", "template"]

CLIENT = (b"client",)
SECONDS_MAX = 86_400.0


class StillOpenError(AssertionError):
    """The world did not come to rest."""


def done(_: object) -> Word:
    """The handler that has nothing to do."""
    return Word(output={})


class World:
    """One core, its database, and the workers that it sends work to."""

    def __init__(
        self,
        engine: Engine,
        clock: ManualClock,
        *,
        seed: int = 1,
        tuning: Tuning | None = None,
        steps_max: int = 10_000,
        core_id: str = "core-1",
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.tuning = tuning or Tuning()
        self.core_id = CoreId(core_id)
        self.workers: list[SimulatedWorker] = []
        self.letters: list[tuple[tuple[bytes, ...], Command]] = []
        self._steps_max = steps_max
        self._dice = random.Random(seed)  # noqa: S311 - seeded on purpose
        self._ids = IdMaker(clock, self._dice)
        self._commands = 0
        self.start()

    def start(self, *, predecessor_gone: bool = False) -> None:
        """A new process under this core's name; raises while the former one's lease lives."""
        now = self.clock.now()
        with self.engine.begin() as connection:
            epoch = worker_store.start_core(
                connection,
                self.core_id,
                {"commands": f"ipc://{self.core_id}"},
                now=now,
                lease_seconds=self.tuning.core_lease_seconds,
                predecessor_gone=predecessor_gone,
            )
            if epoch is None:
                raise StillOpenError(f"core '{self.core_id}' is still alive")
            self.state = CoreState(
                core_id=self.core_id, epoch=epoch, viable=ViableSteps(steps_max=self._steps_max)
            )
            discover.wake(connection, self.state, self.tuning, now=now)
        self.desk = Desk(
            state=self.state,
            tuning=self.tuning,
            environment="test",
            endpoints=DataPlane(
                steps=f"inproc://{self.core_id}/steps", results=f"inproc://{self.core_id}/results"
            ),
            make_uuid=self._ids.uuid7,
        )
        self.ticking = Tick(
            self.state,
            self.tuning,
            answer=Answering(self.desk),
            make_uuid=self._ids.uuid7,
            chance=self._dice.random,
        )

    def restart(self) -> None:
        """Kill the process, wait for its lease to end, start another with an empty memory."""
        self.clock.advance(self.tuning.core_lease_seconds + 1)
        self.start()

    def tick(self, *received: Received) -> Outbox:
        """One tick as the engine makes it: commit, remember, send."""
        now = self.clock.now()
        try:
            ticked = self._tick(received)
        except StaleWriteError:
            self.state.doubt()
            ticked = self._tick(received)
        ticked.changes.carry_out()
        for publication in ticked.outbox.publications:
            self.state.published[publication.batch_id] = now
        self.deliver(ticked.outbox)
        return ticked.outbox

    def _tick(self, received: Sequence[Received]) -> Ticked:
        with self.engine.begin() as connection:
            return self.ticking.run(connection, received, self.clock.now())

    def deliver(self, outbox: Outbox) -> None:
        """What goes out reaches whom it is for at once."""
        for publication in outbox.publications:
            batch = codec.decode_step_batch(
                publication.topic + publication.body, WireLimits(steps_bytes_max=1 << 30)
            )
            for worker in self.workers:
                if worker.topic == publication.topic:
                    worker.take(batch)
        for letter in outbox.letters:
            command = codec.decode_command(letter.body, WireLimits())
            self.letters.append((letter.route, command))
            if command.command_type == "ResultsRecorded":
                self._note_recorded(codec.decode_data(command.payload.data, ResultsRecorded))

    def _note_recorded(self, told: ResultsRecorded) -> None:
        for worker in self.workers:
            if worker.session_id == told.session_id:
                worker.note_recorded(told)

    def command(
        self,
        kind: str,
        payload: object,
        *,
        command_id: str | None = None,
        route: tuple[bytes, ...] = CLIENT,
    ) -> ReceivedCommand:
        """A command as the io thread hands it up; `payload` is a struct or JSON text."""
        self._commands += 1
        content = msgspec.Raw(payload) if isinstance(payload, bytes) else codec.raw(payload)
        command = Command(
            command_type=kind,
            command_id=command_id or f"command-{self._commands}",
            payload=Payload(type=kind, data=content),
        )
        return ReceivedCommand(route, codec.encode(command))

    def ask(self, kind: str, payload: object, *, command_id: str | None = None) -> Command:
        """The answer to one command, asked in a tick of its own."""
        before = len(self.letters)
        self.tick(self.command(kind, payload, command_id=command_id))
        replies = [reply for route, reply in self.letters[before:] if route == CLIENT]
        if len(replies) != 1:
            raise AssertionError(f"wanted one reply to {kind}, found {len(replies)}")
        return replies[0]

    def publish(self, *templates: Mapping[str, Any]) -> None:
        """Make workflows known; each must be accepted."""
        asked = PublishTemplates(templates=tuple(dict(each) for each in templates))
        reply = self.ask("PublishTemplates", asked)
        for verdict in msgspec.json.decode(reply.payload.data)["verdicts"]:
            if verdict["verdict"] != "published":
                raise AssertionError(f"not published: {verdict}")

    def request(self, name: str, context: object = None, **more: Any) -> bytes:
        """The payload of InitializeTask; `context` as bytes goes as it is."""
        raw = context if isinstance(context, bytes) else orjson.dumps(context or {})
        fields = {"namespace": NAMESPACE, "name": name, "version": VERSION, **more}
        return codec.encode({"task_request": {**fields, "context": msgspec.Raw(raw)}})

    def submit(self, name: str, context: object = None, **more: Any) -> TaskId:
        """Create a task; returns its id."""
        reply = self.ask("InitializeTask", self.request(name, context, **more))
        if reply.payload.type != SUCCESS:
            raise AssertionError(f"refused: {bytes(reply.payload.data).decode()}")
        return msgspec.json.decode(reply.payload.data, type=TaskInitialized).task_id

    def submit_many(self, name: str, count: int) -> list[TaskId]:
        """Create tasks, all in one tick."""
        before = len(self.letters)
        self.tick(*(self.command("InitializeTask", self.request(name)) for _ in range(count)))
        return [
            msgspec.json.decode(reply.payload.data, type=TaskInitialized).task_id
            for _, reply in self.letters[before:]
            if reply.command_type == "TaskInitialized"
        ]

    def worker(
        self,
        name: str = "anna",
        *,
        handlers: Sequence[str] = ("tests.work",),
        handler: Handler = done,
        concurrency: int = 100,
        burst: int = 0,
        subscribed: bool = True,
        **more: Any,
    ) -> SimulatedWorker:
        """Register a worker and see its subscription."""
        route = (name.encode(),)
        request = RegisterWorker(
            worker_name=name,
            handlers=tuple(handlers),
            metadata=WorkerMetadata(max_concurrent_steps=concurrency, max_burst_steps=burst),
            **more,
        )
        before = len(self.letters)
        self.tick(self.command("RegisterWorker", request, route=route))
        reply = next(reply for to, reply in self.letters[before:] if to == route)
        if reply.payload.type != SUCCESS:
            raise AssertionError(f"refused: {bytes(reply.payload.data).decode()}")
        registered = msgspec.json.decode(reply.payload.data, type=WorkerRegistered)
        worker = SimulatedWorker(name, registered.session_id, handler=handler, route=route)
        self.workers.append(worker)
        if subscribed:
            self.subscribe(worker)
        return worker

    def legacy_worker(self, *, handler: Handler = done) -> SimulatedWorker:
        """A seed worker: nothing but a subscription."""
        worker = SimulatedWorker("legacy", None, handler=handler, route=())
        self.workers.append(worker)
        self.subscribe(worker)
        return worker

    def subscribe(self, worker: SimulatedWorker) -> None:
        self.tick(SubscriptionSeen(worker.topic, subscribed=True))

    def beats(self) -> list[ReceivedCommand]:
        """A heartbeat of every worker that still gives signs of life."""
        return [
            self.command(
                "WorkerHeartbeat",
                WorkerHeartbeat(session_id=worker.session_id, in_hand=worker.claims()),
                route=worker.route,
            )
            for worker in self.workers
            if worker.session_id is not None and not worker.silent
        ]

    def work(self) -> list[ReceivedResult]:
        """What all workers that still live have to say."""
        return [frame for worker in self.workers if not worker.silent for frame in worker.work()]

    def wait(self, seconds: float) -> None:
        """Let time pass, with heartbeats and the ticks that fall due, but without any work done."""
        until = self.clock.now().timestamp() + seconds
        while self._advance(until):
            self.tick(*self.beats())

    def _advance(self, until: float) -> bool:
        """Go on to the next moment at which something is due, at most to `until`."""
        now = self.clock.now()
        left = until - now.timestamp()
        if left <= 0:
            return False
        due = (next_due(self.state, self.tuning, now) - now).total_seconds()
        self.clock.advance(min(left, max(due, 0.001), self.tuning.heartbeat_interval_seconds))
        return True

    def run(self, *, ticks_max: int = 2_000) -> None:
        """Work and wait until every task is over and every batch settled; raises if that fails."""
        until = self.clock.now().timestamp() + SECONDS_MAX
        frames: list[ReceivedResult] = []
        for _ in range(ticks_max):
            frames = self.work()
            if not frames and self.at_rest:
                return
            if not frames and not self._advance(until):
                break
            self.tick(*frames, *([] if frames else self.beats()))
        raise StillOpenError(f"after {ticks_max} ticks open are {self.open_steps()}")

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way: no batch is open or unsettled, no step may or will move."""
        if self.state.deadlines or self.state.unreconciled:
            return False
        return not self.rows(
            "SELECT 1 FROM tasker_workflow_steps s JOIN tasker_tasks t USING (task_id) "
            "WHERE t.completed_at IS NULL AND (s.state IN ('in_progress', 'waiting_for_retry') "
            "OR (s.state = 'pending' AND s.unfinished_parents = 0)) LIMIT 1"
        )

    @property
    def at_rest(self) -> bool:
        """Whether it is quiet, and every task is over."""
        open_tasks = "SELECT 1 FROM tasker_tasks WHERE completed_at IS NULL LIMIT 1"
        return self.quiet and not self.rows(open_tasks)

    def open_steps(self) -> list[tuple[Any, ...]]:
        found = self.rows(
            "SELECT task_id, name, state, attempts FROM tasker_workflow_steps "
            "WHERE state NOT IN ('complete', 'error') ORDER BY 1, 2 LIMIT 20"
        )
        return [tuple(row) for row in found]

    def rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), values).fetchall()

    def task(self, task_id: TaskId) -> Row[Any]:
        return self.rows("SELECT * FROM tasker_tasks WHERE task_id = :t", t=task_id)[0]

    def steps(self, task_id: TaskId) -> dict[str, Row[Any]]:
        found = self.rows("SELECT * FROM tasker_workflow_steps WHERE task_id = :t", t=task_id)
        return {row.name: row for row in found}

    def states(self, task_id: TaskId) -> dict[str, str]:
        return {name: step.state for name, step in self.steps(task_id).items()}

    def ledger(self) -> Sequence[Row[Any]]:
        return self.rows("SELECT * FROM tasker_step_execution_batch_received_results ORDER BY id")

    def verdicts(self) -> list[str]:
        return [row.verdict for row in self.ledger()]

    def batches(self) -> Sequence[Row[Any]]:
        return self.rows("SELECT * FROM tasker_step_execution_batches ORDER BY batch_id")

    def discrepancies(self) -> list[str]:
        found = self.rows("SELECT kind FROM tasker_step_execution_batch_discrepancies ORDER BY id")
        return [row.kind for row in found]

    def dead_letters(self) -> Sequence[Row[Any]]:
        return self.rows("SELECT * FROM tasker_dead_letters ORDER BY dead_letter_id")

    def session(self, worker: SimulatedWorker) -> Session:
        """The core's memory of a worker's session."""
        return self.state.sessions[worker.session_id or LEGACY_SESSION]
