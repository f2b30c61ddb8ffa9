"""Somebody who wants tasks done, and asks again until he is answered."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import SUCCESS, Command, Payload
from tasker_zmq.protocol.tasks import TaskInitialized
from tests.simulation.network import Link
from tests.simulation.timeline import ViolationError

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ASK_AGAIN_SECONDS = 2.0
WORKFLOW = "simulated"


class Client:
    """Submits tasks over the storm's time, each under an identity of its own."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.link = Link("client")
        self.identity = simulation.new_identity("client")
        self._asked: dict[str, str] = {}
        self._commands = 0
        options, dice = simulation.options, simulation.dice
        self.open = [f"order-{number}" for number in range(1, options.tasks + 1)]
        for task in self.open:
            moment = dice.uniform(0.0, options.stormy_seconds * 0.7)
            simulation.timeline.at(moment, partial(self._ask, task))

    def _ask(self, task: str) -> None:
        if task not in self.open:
            return
        self._commands += 1
        command = Command(
            command_type="InitializeTask",
            command_id=f"client-{self._commands}",
            payload=Payload(
                type="InitializeTask",
                data=msgspec.Raw(
                    self._simulation.core.world.request(WORKFLOW, {"order": task}, identity=task)
                ),
            ),
        )
        self._asked[command.command_id] = task
        core = self._simulation.core
        if core.alive:
            core.receive_command(self.link, self.identity, codec.encode(command))
        self._simulation.timeline.after(ASK_AGAIN_SECONDS, lambda: self._ask(task))

    def arrive(self, command: Command) -> None:
        """An answer."""
        task = self._asked.get(command.correlation_id or "")
        if task is None:
            return
        if command.payload.type != SUCCESS:
            raise ViolationError("tasks are taken", bytes(command.payload.data).decode()[:300])
        told = msgspec.json.decode(command.payload.data, type=TaskInitialized)
        self._simulation.witness.created(task, told.task_id)
        if task in self.open:
            self.open.remove(task)
