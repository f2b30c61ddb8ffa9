"""Somebody who wants tasks done, and asks again until he is answered."""

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import InitializeTasks, TasksInitialized
from tasker_zmq.protocol.commands import ERROR, SUCCESS, Command, ErrorData, Payload
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest
from tasker_zmq.store import submissions
from tasker_zmq.testing.world import NAMESPACE
from tests.simulation.network import Link
from tests.simulation.timeline import ViolationError

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ASK_AGAIN_SECONDS = 2.0
WORKFLOW = "simulated"
SEVERAL_EVERY, SEVERAL = 3, 3  # of so many commands one asks for so many tasks


class Client:
    """Submits tasks over the storm's time, each under an identity of its own."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.link = Link("client")
        self.identity = simulation.new_identity("client")
        self._asked: dict[str, tuple[str, ...]] = {}
        self._commands = 0
        options, dice = simulation.options, simulation.dice
        self.open = [f"order-{number}" for number in range(1, options.tasks + 1)]
        for task in self.open:
            moment = dice.uniform(0.0, options.stormy_seconds * 0.7)
            simulation.timeline.at(moment, partial(self._ask, task))
        self._by_sql = frozenset(f"row-{number}" for number in range(1, options.by_sql + 1))
        if self._by_sql:  # all at one moment, for whichever core is first
            moment = dice.uniform(0.5, options.stormy_seconds * 0.7)
            for task in sorted(self._by_sql):
                self.open.append(task)
                simulation.timeline.at(moment, partial(self._ask, task))

    def _ask(self, task: str) -> None:
        if task not in self.open:
            return
        if task in self._by_sql:
            # Never in both ways: a number that SQL gave out is no task's if a command comes first.
            if not self._asked_by_sql(task):
                self._simulation.timeline.after(ASK_AGAIN_SECONDS, lambda: self._ask(task))
            return
        self._commands += 1
        several = self._commands % SEVERAL_EVERY == 0
        tasks = self._with_others(task) if several else (task,)
        requests = [self._request(each) for each in tasks]
        kind = "InitializeTasks" if several else "InitializeTask"
        asked = (
            InitializeTasks(task_requests=codec.raw(requests))
            if several
            else InitializeTask(task_request=requests[0])
        )
        command = Command(
            command_type=kind,
            command_id=f"client-{self._commands}",
            payload=Payload(type=kind, data=codec.raw(asked)),
        )
        self._asked[command.command_id] = tasks
        site = self._simulation.cores.some()
        if site is not None and site.process is not None:
            site.process.receive_command(self.link, self.identity, codec.encode(command))
        self._simulation.timeline.after(ASK_AGAIN_SECONDS, lambda: self._ask(task))

    def _with_others(self, task: str) -> tuple[str, ...]:
        """Some that nobody has asked for yet, or has had no answer about, go along."""
        others = (each for each in self.open if each != task and each not in self._by_sql)
        return (task, *islice(others, SEVERAL - 1))

    def _request(self, task: str) -> TaskRequest:
        world = self._simulation.cores.sites[0].world
        payload = world.request(WORKFLOW, {"order": task}, identity=task)
        return msgspec.json.decode(payload, type=InitializeTask).task_request

    def _asked_by_sql(self, task: str) -> bool:
        """Whether the database could be asked: then the task's number is known at once."""
        simulation = self._simulation
        if simulation.away:
            return False
        task_id = simulation.database.submit(f"{NAMESPACE}/{WORKFLOW}", task)
        simulation.trace.note("asks by SQL", task, task_id)
        simulation.witness.created(task, task_id)
        self.open.remove(task)
        simulation.cores.tell([(submissions.CHANNEL, "")])
        return True

    def arrive(self, command: Command) -> None:
        """An answer."""
        tasks = self._asked.get(command.correlation_id or "")
        if tasks is None:
            return
        if command.payload.type == ERROR:
            refused = msgspec.json.decode(command.payload.data, type=ErrorData)
            if refused.code == "busy":
                return  # it stops; the next time another one is asked
        if command.payload.type != SUCCESS:
            raise ViolationError("tasks are taken", bytes(command.payload.data).decode()[:300])
        for task, task_id in zip(tasks, _task_ids(command), strict=True):
            self._simulation.witness.created(task, task_id)
            if task in self.open:
                self.open.remove(task)


def _task_ids(answer: Command) -> list[int]:
    if answer.command_type == "TaskInitialized":
        return [msgspec.json.decode(answer.payload.data, type=TaskInitialized).task_id]
    told = msgspec.json.decode(answer.payload.data, type=TasksInitialized)
    refused = [each.refused.message for each in told.tasks if each.refused is not None]
    if refused:
        raise ViolationError("tasks are taken", refused[0][:300])
    return [each.task_id for each in told.tasks if each.task_id is not None]
