"""What the worker's loop sleeps on: its sockets, and the inbox of what runs have to tell."""

from collections.abc import Container, Iterable

import zmq

from tasker_zmq.worker.corelink import CoreLink
from tasker_zmq.worker.executors.executor import EventInbox

Watched = tuple[object, bool, object]


class Watch:
    """A poller on the sockets of the moment, made anew only when they changed."""

    def __init__(self, inbox: EventInbox) -> None:
        self._inbox = inbox
        self._poller = zmq.Poller()
        self._watched: list[Watched] = []

    def wait(self, links: Iterable[CoreLink], *, milliseconds: int) -> Container[object]:
        """The sockets that have something; of the others there is nothing to read."""
        wanted: list[Watched] = [
            (link.control.sockets, link.control.wants_to_write, link.plane) for link in links
        ]
        if wanted != self._watched:
            self._watched = wanted
            self._poller = _poller_of(links)
            self._poller.register(self._inbox.fileno(), zmq.POLLIN)
        return [each for each, _ in self._poller.poll(milliseconds)]


def _poller_of(links: Iterable[CoreLink]) -> zmq.Poller:
    poller = zmq.Poller()
    for link in links:
        flags = zmq.POLLIN | (zmq.POLLOUT if link.control.wants_to_write else 0)
        poller.register(link.control.sockets.socket, flags)
        if link.plane is not None:
            poller.register(link.plane.steps, zmq.POLLIN)
            poller.register(link.plane.results, zmq.POLLIN)
    return poller
