"""The scribe: a thread with a connection of its own that writes the audit of commands in groups.

Neither the engine nor the io thread waits for it. When it cannot write, it keeps so many rows and
counts the others; the count becomes a row as soon as rows can be written again.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine

from tasker_zmq.clock import Clock
from tasker_zmq.commands.audit_rows import lost_row
from tasker_zmq.commands.auditing import Account
from tasker_zmq.daemon.trail import GROUP, AuditTrail
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.settings import AuditLevel, AuditSettings
from tasker_zmq.store import audit
from tasker_zmq.store.audit import AuditRow
from tasker_zmq.store.connection import is_away
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WRITE_SECONDS: Final = 0.5
AGAIN_SECONDS: Final = 2.0  # while the database is away
ROWS_MAX: Final = 20_000
STOP_SECONDS: Final = 5.0


class Scribe(threading.Thread):
    """Writes what the trail brings until it is stopped; at the end all that it still has."""

    def __init__(
        self,
        database: Engine,
        trail: AuditTrail,
        account: Account,
        *,
        core_id: CoreId,
        clock: Clock,
        rows_max: int = ROWS_MAX,
    ) -> None:
        super().__init__(name="tasker-scribe", daemon=True)
        self._database = database
        self._trail = trail
        self._account = account
        self._core_id = core_id
        self._clock = clock
        self._rows_max = rows_max
        self._rows: list[AuditRow] = []
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._away = False
        self._lost_now = 0
        self.lost = 0  # since the start

    def figures(self) -> Mapping[str, Any]:
        """What health says of it."""
        return {"audit_waiting": len(self._trail) + len(self._rows), "audit_lost": self.lost}

    def stop(self) -> None:
        """Write what there is, once more, and end."""
        self._stopping.set()
        self._trail.kick()
        if self.is_alive():
            self.join(timeout=STOP_SECONDS)

    def run(self) -> None:
        while not self._stopping.is_set():
            if self._away:
                self._stopping.wait(AGAIN_SECONDS)
            else:
                self._trail.wait(WRITE_SECONDS)
            self.turn()
        self.close()

    def turn(self) -> None:
        """Take what has come, and write what can be written."""
        noted, lost = self._trail.take()
        for each in noted:
            try:
                self._keep(self._account.note(each))
            except Exception as error:  # noqa: BLE001 - one odd frame must not end the audit
                log(logger, logging.WARNING, Event.AUDIT_NOT_WRITTEN, error=repr(error)[:300])
                self._lose(1)
        self._lose(lost)
        self._keep(self._account.due(self._clock.now()))
        self._write()

    def close(self) -> None:
        """Write also what has had no answer, and give the connection back."""
        self._keep(self._account.close())
        self._write()
        if self._connection is not None:
            self._connection.close()

    def _keep(self, rows: list[AuditRow]) -> None:
        room = self._rows_max - len(self._rows)
        self._rows += rows[:room]
        self._lose(len(rows) - room)

    def _lose(self, rows: int) -> None:
        if rows > 0:
            self._lost_now += rows
            self.lost += rows

    def _write(self) -> None:
        """All rows, in groups; while the database is away they stay."""
        try:
            while self._rows:
                self._write_group(self._rows[:GROUP])
                del self._rows[:GROUP]
            if self._lost_now:
                self._write_group([lost_row(self._lost_now, self._clock.now())])
                self._lost_now = 0
        except Exception as error:  # noqa: BLE001 - without an audit the work goes on
            if not self._away:
                log(logger, logging.WARNING, Event.AUDIT_NOT_WRITTEN, error=repr(error)[:300])
            self._away = True
        else:
            self._away = False

    def _write_group(self, rows: list[AuditRow]) -> None:
        """Write them; one that cannot be written is found by halves, and lost."""
        try:
            self._insert(rows)
        except Exception as error:
            self._drop_connection()
            if is_away(error):
                raise
            if len(rows) == 1:
                log(logger, logging.WARNING, Event.AUDIT_NOT_WRITTEN, error=repr(error)[:300])
                self._lose(1)
                return
            middle = len(rows) // 2
            self._write_group(rows[:middle])
            self._write_group(rows[middle:])

    def _insert(self, rows: list[AuditRow]) -> None:
        if self._connection is None:
            self._connection = self._database.connect()
        with self._connection.begin():
            audit.write(self._connection, rows, core_id=self._core_id)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


class Audit:
    """A trail and who writes it down; nothing at all when nothing is to be kept."""

    def __init__(
        self, settings: AuditSettings, database: Engine, *, core_id: CoreId, clock: Clock
    ) -> None:
        self.trail = AuditTrail(clock) if settings.level is not AuditLevel.OFF else None
        if self.trail is None:
            return
        account = Account(
            envelope_bytes_max=settings.envelope_bytes_max,
            questions=settings.level is AuditLevel.ALL,
        )
        self._scribe = Scribe(database, self.trail, account, core_id=core_id, clock=clock)

    def start(self) -> None:
        if self.trail is not None:
            self._scribe.start()

    def stop(self) -> None:
        if self.trail is not None:
            self._scribe.stop()

    def sent(self, letters: Sequence[Letter]) -> None:
        """These are on their way."""
        if self.trail is not None and letters:
            self.trail.sent(letters)

    def figures(self) -> Mapping[str, Any]:
        """What health says of it."""
        return self._scribe.figures() if self.trail is not None else {}
