"""The listener: a connection of its own on which PostgreSQL says that there is something to do."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sqlalchemy import Connection, Engine

from tasker_zmq.daemon.wakeup import Wakeup
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.pipeline import neighbours
from tasker_zmq.pipeline.inbox import (
    CoreEnded,
    CoreStarted,
    Received,
    SubmissionsNotified,
    WorkersManaged,
)
from tasker_zmq.store import administration, submissions, workers
from tasker_zmq.store.notifications import listen, wait
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 60.0  # then it looks whether the connection still is one
AGAIN_SECONDS = 2.0
CHANNELS: Final = (
    submissions.CHANNEL,
    workers.CORES_CHANNEL,
    administration.CHANNEL,
    neighbours.CHANNEL,
)
MISSED: Final = (
    SubmissionsNotified(),
    CoreEnded(),
    WorkersManaged(),
)  # perhaps; the rest is swept for


class Listener(threading.Thread):
    """Puts into the inbox what it hears, and all there is to hear of when it was away.

    It is a shortcut: what it misses is found by the next look of the engine.
    """

    def __init__(
        self, database: Engine, *, core_id: CoreId, put: Callable[[Received], None]
    ) -> None:
        super().__init__(name="tasker-listener", daemon=True)
        self._database = database
        self._core_id = core_id
        self._put = put
        self._stopping = threading.Event()
        self._wakeup: Wakeup | None = None  # while it runs

    def stop(self) -> None:
        self._stopping.set()
        if self._wakeup is not None:
            self._wakeup.wake()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        with Wakeup() as self._wakeup:
            while not self._stopping.is_set():
                try:
                    with self._database.connect() as connection:
                        self._listen(connection, self._wakeup)
                except Exception as error:  # noqa: BLE001 - without it work is found more slowly
                    log(logger, logging.DEBUG, Event.DATABASE_AWAY, error=repr(error)[:300])
                    self._stopping.wait(AGAIN_SECONDS)

    def _listen(self, connection: Connection, wakeup: Wakeup) -> None:
        listen(connection, CHANNELS)
        for missed in MISSED:
            self._put(missed)
        while not self._stopping.is_set():
            for event in self._understood(wait(connection, WAIT_SECONDS, woken=wakeup.fileno())):
                self._put(event)

    def _understood(self, heard: Iterable[tuple[str, str]]) -> Iterator[Received]:
        for channel, payload in dict.fromkeys(heard):
            if channel == submissions.CHANNEL:
                yield SubmissionsNotified()
            elif channel == workers.CORES_CHANNEL:
                yield CoreStarted() if payload.endswith(workers.STARTED) else CoreEnded()
            elif channel == administration.CHANNEL:
                yield WorkersManaged()
            elif (told := neighbours.understand(payload, self._core_id)) is not None:
                yield told
