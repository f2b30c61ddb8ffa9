"""The load's source: a thread that submits tasks at a steady pace and notes which were taken.

A task whose submission was not answered is submitted again under the same identity, until it is.
"""

import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tasker_zmq.cli.chaotic.shapes import NAMESPACE, VERSION, Shape, drawn
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.errors import RefusedError, UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.tasks import InitializeTask, TaskInitialized, TaskRequest

ANSWER_SECONDS_MAX: Final = 2.0
PAUSE_SECONDS: Final = 0.2  # after a refusal or silence
STOP_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A task that the daemon acknowledged."""

    task_id: int
    identity: str
    shape: Shape


class Submitter(threading.Thread):
    """Submits until `finish`; `taken` may be read at any time."""

    def __init__(
        self, commands: str, *, dice: random.Random, tasks_per_second: float, seed: int
    ) -> None:
        super().__init__(name="submitter", daemon=True)
        self._commands = commands
        self._dice = dice
        self._gap_seconds = 1.0 / tasks_per_second
        self._prefix = f"chaos-{seed}"
        self._finishing = threading.Event()
        self._given_up = threading.Event()
        self.taken: list[Submitted] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._finishing.wait(self._gap_seconds):
                number += 1
                self._submit(f"{self._prefix}-{number}", drawn(self._dice))
        except BaseException as error:  # noqa: BLE001 - whoever finishes it looks at it
            self.failure = error

    def finish(self) -> None:
        """Submit what is being submitted, and no more; raises what stopped it before."""
        self._finishing.set()
        self.join(STOP_SECONDS_MAX)
        if self.is_alive():
            raise UnreachableError(
                f"a submission was not answered within {STOP_SECONDS_MAX:.0f} s, with all at work"
            )
        if self.failure is not None:
            raise self.failure

    def give_up(self) -> None:
        """End it now, answered or not."""
        self._given_up.set()
        self._finishing.set()
        if self.is_alive():
            self.join(STOP_SECONDS_MAX)

    def _submit(self, identity: str, shape: Shape) -> None:
        request = InitializeTask(
            task_request=TaskRequest(
                namespace=NAMESPACE,
                name=shape.name,
                version=VERSION,
                context=codec.raw({}),
                identity=identity,
                initiator="chaos",
                source_system="tasker-zmq chaos",
            )
        )
        while not self._given_up.is_set():
            with suppress(UnreachableError, RefusedError), CommandClient(self._commands) as client:
                answer = client.ask("InitializeTask", request, timeout_seconds=ANSWER_SECONDS_MAX)
                task_id = codec.decode_data(answer, TaskInitialized).task_id
                self.taken.append(Submitted(task_id=task_id, identity=identity, shape=shape))
                return
            self._given_up.wait(PAUSE_SECONDS)
