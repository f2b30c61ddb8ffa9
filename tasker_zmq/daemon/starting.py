"""What a daemon waits for before it begins."""

import logging
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from tasker_zmq.clock import Clock
from tasker_zmq.errors import TaskerError
from tasker_zmq.store.connection import is_starting
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

LEASE_WAIT_STEP_SECONDS: Final = 0.25
DATABASE_START_SECONDS_MAX: Final = 30.0


def await_database(
    database: Engine, clock: Clock, *, seconds: float, stop_asked: Callable[[], bool]
) -> None:
    """Wait while the server says that it is starting; whatever else is ill, `connect` tells.

    `seconds` is what one attempt to connect may take.
    """
    give_up_at = clock.monotonic() + DATABASE_START_SECONDS_MAX
    waits_for = {"waiting_for": "the database to start"}
    waiting = False
    while is_starting(database, connect_timeout_seconds=seconds):
        if clock.monotonic() > give_up_at:
            return
        if not waiting:
            waiting = True
            log(logger, logging.INFO, Event.DAEMON_STARTING, **waits_for)
        time.sleep(LEASE_WAIT_STEP_SECONDS)
        if stop_asked():
            raise TaskerError("stopped while waiting for the database to start")
