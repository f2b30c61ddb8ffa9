"""What the real engine is given in a simulation in place of its own."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tasker_zmq.daemon.engine import EngineThread
from tasker_zmq.errors import StaleWriteError
from tasker_zmq.pipeline.inbox import Received, ReceivedResult
from tasker_zmq.pipeline.tick import Tick, Ticked
from tasker_zmq.pipeline.upkeep import CoreLostError
from tasker_zmq.store.connection import is_away, is_conflict
from tests.simulation.timeline import ViolationError

if TYPE_CHECKING:
    from tests.simulation.core import Core


class WaitError(BaseException):
    """The engine would wait, and then deal with the same inbox again: it does so when called again.

    No Exception: it must come through to whoever called the engine.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class Patience:
    """In the place of the engine's event: who waits lets everybody else go on."""

    def is_set(self) -> bool:
        return False

    def set(self) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        raise WaitError(seconds)


class LastingEngine(EngineThread):
    """Gives its connection back where the real one throws it away.

    For others it is gone: what is open is rolled back, and what it held is free. But what is
    prepared and planned on it need not be so again, which takes an eighth of a simulation's time.
    """

    def _drop_connection(self) -> None:
        connection = self._connection
        if connection is None or connection.invalidated:
            super()._drop_connection()
            return
        driver = connection.connection.dbapi_connection
        if driver is None or driver.closed:
            super()._drop_connection()
            return
        self._connection = None
        driver.rollback()
        driver.execute("SELECT pg_advisory_unlock_all()")
        driver.rollback()
        connection.close()


class WatchedTick:
    """The real tick; tells what was in the transaction, and what it could not deal with."""

    def __init__(self, tick: Tick, core: "Core") -> None:
        self._tick = tick
        self._core = core

    def run(self, connection: Connection, inbox: Sequence[Received], now: datetime) -> Ticked:
        self._core.results_in_transaction = sum(isinstance(e, ReceivedResult) for e in inbox)
        try:
            return self._tick.run(connection, inbox, now)
        except (StaleWriteError, CoreLostError):
            raise
        except Exception as error:
            if is_away(error) or is_conflict(error):
                raise
            raise ViolationError("the tick goes through", repr(error)[:600]) from error
