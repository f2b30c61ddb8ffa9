"""A worker's sockets, simulated: what it sends comes to the core through the simulated network."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq

from tasker_zmq.protocol import topics
from tests.simulation.database import CrashError

if TYPE_CHECKING:
    from tests.simulation.cores import Site
    from tests.simulation.workers import Process


class SimulatedCommands:
    """A DEALER; `identity` is what the core's ROUTER calls this connection."""

    def __init__(self, process: "Process", site: "Site") -> None:
        self._process = process
        self._arrived: deque[bytes] = deque()
        self.socket = None
        self.site = site
        self.identity = process.simulation.new_identity(process.name)
        process.commands[self.identity] = self

    def send(self, frame: bytes) -> bool:
        process, core = self._process, self.site.process
        if core is None or not self.writable:
            return False
        core.receive_command(process.link(self.site), self.identity, frame)
        return True

    @property
    def writable(self) -> bool:
        return self.site.process is not None and self._process.reaches(self.site)

    def arrive(self, frame: bytes) -> None:
        self._arrived.append(frame)

    def received(self) -> Iterator[bytes]:
        while self._arrived:
            yield self._arrived.popleft()

    def close(self) -> None:
        self._process.commands.pop(self.identity, None)


class SimulatedPlane:
    """SUB and XPUB of one session."""

    steps = results = None

    def __init__(self, process: "Process", site: "Site", *, topic: bytes) -> None:
        self._process = process
        self._arrived: deque[bytes] = deque()
        self._wanted = self._news = False
        self.site, self.topic = site, topic
        self.open = self.subscribed = True
        self.leads_nowhere = False
        self.deaf = process.simulation.network.strikes("deaf")
        process.planes.append(self)
        if process.reaches(site):
            self.join()

    def join(self) -> None:
        """Both sides learn of the other's subscription, each when its message has arrived."""
        simulation, core = self._process.simulation, self.site.process
        if self.leads_nowhere:
            return

        def wanted() -> None:
            if self.open and core is not None and core.alive and self.site.process is core:
                self._wanted = self._news = True
                self._process.wake()

        simulation.timeline.after(simulation.network.joining_seconds(), wanted)
        if self.subscribed:
            self._tell_core(subscribed=True)

    def cut(self) -> None:
        """The core is gone; the socket goes on looking for it."""
        if not self.leads_nowhere:
            self._wanted = self._news = False

    def break_off(self) -> None:
        """The core sees it end; at this end nothing is noticed, and all goes into the void."""
        if not self.leads_nowhere:
            self._tell_core(subscribed=False)
            self.leads_nowhere = True

    def arrive(self, frame: bytes) -> None:
        if self.open and not self.deaf and not self.leads_nowhere:
            self._arrived.append(frame)
            self._process.wake()

    def read_subscriptions(self) -> bool:
        news, self._news = self._news, False
        return news

    def wanted(self, topic: str) -> bool:
        return self._wanted and bool(topic)

    def publish(self, topic: str, frame: bytes) -> bool:
        if not self._wanted or not topic:
            return False
        if self._process.doomed:
            raise CrashError
        core = self.site.process
        if not self.leads_nowhere and core is not None:
            core.receive_result(self._process.link(self.site), frame)
        return True

    def batches(self) -> Iterator[bytes]:
        while self._arrived:
            yield self._arrived.popleft()

    def refuse_more(self) -> None:
        if self.subscribed:
            self.subscribed = False
            self._tell_core(subscribed=False)

    def accept_more(self) -> None:
        if not self.subscribed:
            self.subscribed = True
            self._tell_core(subscribed=True)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._process.planes.remove(self)
            self._tell_core(subscribed=False)

    def _tell_core(self, *, subscribed: bool) -> None:
        core = self.site.process
        if not self.leads_nowhere and core is not None:
            core.receive_subscription(self._process, self, subscribed=subscribed)


def command_socket(process: Any, url: str) -> SimulatedCommands:
    """In the place of the worker's CommandSocket."""
    return SimulatedCommands(process, process.simulation.cores.at(url))


def data_sockets(process: Any, *, steps: str, results: str, topic: bytes) -> SimulatedPlane:
    """In the place of the worker's DataSockets."""
    if not (steps and results and topic.startswith(topics.STEPS.encode())):
        raise zmq.ZMQError(zmq.EINVAL)
    return SimulatedPlane(process, process.simulation.cores.named(steps), topic=topic)
