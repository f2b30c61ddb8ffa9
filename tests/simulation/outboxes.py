"""Outboxes on disk: what stood in them when their process ended, and whose it is to tell now."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.protocol.commands import Command, WorkerRegistered
from tasker_zmq.protocol.messages import BatchCompletion, BatchError, PartialResult, StepBatch
from tasker_zmq.worker.outbox import key_of
from tests.simulation.timeline import ViolationError
from tests.simulation.witness import ResultKey

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_report = msgspec.json.Decoder(PartialResult | BatchCompletion | BatchError)


class Outboxes:
    """The files, and a look into each between two processes; `written` says what was there.

    `_kept` are the successes that a successor has named in time: by step, its session and batch.
    """

    def __init__(self, simulation: "Simulation", folder: Path) -> None:
        self._simulation = simulation
        self._folder = folder
        self.written: dict[ResultKey, str] = {}
        self._successes: dict[str, dict[StepId, BatchUuid]] = {}
        self._kept: dict[StepId, tuple[SessionId, BatchUuid]] = {}
        self._newest: dict[str, int] = {}  # by worker: the number of its newest connection
        self._overtaken: set[str] = set()

    def path(self, name: str) -> Path | None:
        """Where the worker's outbox is; None: in memory."""
        return self._folder / name if name in self._simulation.options.durable else None

    def look_at_file(self, name: str) -> None:
        """Nobody has it open."""
        path = self.path(name)
        if path is None:
            return
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT report FROM unrecorded ORDER BY number").fetchall()
        self._simulation.trace.note("leaves", name, f"{len(rows)} results on disk")
        successes = self._successes[name] = {}
        for (row,) in rows:
            report = _report.decode(row)
            key = key_of(report)
            self.written[(key.batch_id, key.message_type, key.step_id, key.sequence)] = name
            if isinstance(report, PartialResult) and report.status == "completed":
                successes[report.step_id] = report.batch_id

    def overtaken(self, key: ResultKey) -> bool:
        """A known limit: a registration read after its successor's gets the batches back.

        It is of a process that is dead, and so the result is refused, and forgotten.
        """
        return self.written.get(key) in self._overtaken

    def registered(self, connection: bytes, answer: Command, state: CoreState) -> None:
        """A successor has said what it has in hand: what was not given away stays with it."""
        told = msgspec.json.decode(answer.payload.data, type=WorkerRegistered)
        session = state.sessions.get(told.session_id)
        number = int(connection.rpartition(b"/")[2])
        if number < self._newest.get(told.worker_name, 0):
            self._overtaken.add(told.worker_name)
        self._newest[told.worker_name] = max(number, self._newest.get(told.worker_name, 0))
        if session is None:
            return
        for step_id, batch_uuid in self._successes.get(session.worker_name, {}).items():
            batch_id = session.holding.get(step_id)
            if batch_id is not None and session.sent[batch_id].batch_uuid == batch_uuid:
                self._kept[step_id] = (session.session_id, batch_uuid)

    def look_at(self, batch: StepBatch, state: CoreState) -> None:
        """A batch that is published: none of its steps is in the outbox of one who lives."""
        for step_id in {each.step_id for each in batch.steps} & self._kept.keys():
            session_id, batch_uuid = self._kept[step_id]
            session = state.sessions.get(session_id)
            if batch.batch_id == batch_uuid or session is None:
                continue
            [(was,)] = self._simulation.database.rows(
                "SELECT state FROM tasker_step_execution_batches"
                " WHERE batch_uuid = CAST(%s AS uuid)",
                batch_uuid,
            )
            if was != "timed_out":
                raise ViolationError(
                    "what is written is not run again",
                    f"step {step_id} of {batch_uuid}, told by {session.worker_name}, is sent again",
                )
