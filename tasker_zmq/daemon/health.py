"""Health: a snapshot that the other threads refresh, and a socket for REQ that answers from it."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
import zmq

from tasker_zmq.daemon.wakeup import Wakeup
from tasker_zmq.transport.endpoints import EndpointLock, bind

REQUEST_BYTES_MAX = 64 << 10
ROUTE_FRAMES_MAX = 2  # identity and an empty delimiter


class HealthThread(threading.Thread):
    """One JSON frame for each request, whatever the request says."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        snapshot: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(name="tasker-health", daemon=True)
        self._snapshot = snapshot
        self._lock = EndpointLock(endpoint)
        self._socket = context.socket(zmq.ROUTER)  # a REP is stuck after some broken requests
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        try:
            self.endpoint = bind(self._socket, endpoint, purpose="health")
        except BaseException:
            self._socket.close(linger=0)
            self._lock.release()
            raise
        self._wakeup = Wakeup()
        self._stopping = threading.Event()

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        while not self._stopping.is_set():
            if self._socket in dict(poller.poll()):
                self._answer(self._socket.recv_multipart())

    def _answer(self, frames: list[bytes]) -> None:
        """Reply over the frames before the request: who asked and, from a REQ, an empty one."""
        body = orjson.dumps(self._snapshot(), default=str)
        # Who left, or does not read, gets none.
        with suppress(zmq.ZMQError):
            self._socket.send_multipart([*frames[:-1][:ROUTE_FRAMES_MAX], body], zmq.NOBLOCK)

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.wake()
        if self.is_alive():
            self.join()
        self._wakeup.close()
        self._socket.close(linger=0)
        self._lock.release()
