"""A worker without a session: it subscribes to `steps`, says each result once, and hears nothing.

It is restarted by nobody but the weather, except that a person restarts one that gets no work
when the storm is over: it cannot know that it is not heard.
"""

import random
from typing import TYPE_CHECKING

import msgspec

from tasker_zmq.domain.ids import BatchUuid
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import OldResponse, OldStepResult, PartialResult, ResultMessage
from tasker_zmq.worker.batches import BatchesInHand
from tasker_zmq.worker.executors.executor import LOOP_SLEEP_SECONDS_MAX
from tasker_zmq.worker.runs import Outcome, RunEvent, runs_of
from tests.simulation.options import LEGACY
from tests.simulation.publications import LIMITS
from tests.simulation.slots import Slots
from tests.simulation.sockets import SimulatedPlane
from tests.simulation.workers import Loop, Process

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class LegacyLoop:
    """Answers per step and batch or, with `one_shot`, per batch only."""

    can_write = False

    def __init__(self, process: Process, *, one_shot: bool) -> None:
        self._process = process
        self._one_shot = one_shot
        self._slots = Slots(process, process.plan.concurrency)
        self._planes = [
            SimulatedPlane(process, site, topic=topics.LEGACY_STEPS_TOPIC)
            for site in process.simulation.cores.sites
        ]
        self._batches = BatchesInHand(process.name)
        self._ended: dict[BatchUuid, list[OldStepResult]] = {}  # of batches that have not ended
        self.over = False

    def turn(self) -> float:
        for plane in self._planes:
            plane.read_subscriptions()
            for frame in plane.batches():
                self._receive(frame)
        self._slots.expire()
        for event in self._process.inbox.take():
            self._report(event)
        due = self._slots.next_deadline()
        now = self._process.simulation.timeline.now
        return LOOP_SLEEP_SECONDS_MAX if due is None else max(0.0, due - now)

    def ask_to_stop(self) -> None:
        """What runs is lost: it knows nobody whom it could tell."""
        self.over = True

    @property
    def unrecorded(self) -> int:
        return self._batches.load

    def _receive(self, frame: bytes) -> None:
        batch = codec.decode_step_batch(frame, LIMITS)
        if self._batches.knows(batch.batch_id):
            return  # the simulated network repeats it, the daemon does not
        self._batches.accept(batch, now=self._process.simulation.timeline.now)
        for run in runs_of(batch, WireLimits()):
            self._slots.submit(run)

    def _report(self, event: RunEvent) -> None:
        assert isinstance(event.what, Outcome)
        now, timestamp = self._process.simulation.timeline.now, self._timestamp()
        result = self._batches.end_step(event.key, event.what, timestamp=timestamp)
        if result is None:
            return
        ended = self._ended.setdefault(result.batch_id, [])
        ended.append(_old(result))
        if not self._one_shot:
            self._say(topics.PARTIAL_RESULT, msgspec.structs.replace(result, sequence=1))
        completion = self._batches.end_batch(result.batch_id, now=now, timestamp=timestamp)
        if completion is None:
            return
        del self._ended[result.batch_id]
        if self._one_shot:
            told = OldResponse(batch_id=result.batch_id, results=tuple(ended))
            self._say(topics.RESULTS, told)
        else:
            self._say(topics.BATCH_COMPLETION, completion)

    def _timestamp(self) -> str:
        return self._process.clock.now().replace(tzinfo=None).isoformat()

    def _say(self, topic: str, message: ResultMessage) -> None:
        """Once, to whoever listens; while nobody does, into the void."""
        for plane in self._planes:
            plane.publish(topic, codec.encode_frame(topics.subscription(topic), message))


def _old(result: PartialResult) -> OldStepResult:
    return OldStepResult(
        step_id=result.step_id, status=result.status, output=result.output, error=result.error
    )


class LegacyProcess(Process):
    """A process of it; each speaks in one of two ways."""

    legacy = True

    def __init__(self, simulation: "Simulation", number: int) -> None:
        super().__init__(simulation, LEGACY, number)

    def _make_loop(self, dice: random.Random) -> Loop:
        return LegacyLoop(self, one_shot=dice.random() < 0.5)
