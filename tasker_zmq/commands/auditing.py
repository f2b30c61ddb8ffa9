"""The audit of commands: what passed by becomes rows, each command with what came of it.

Works on what others have done already, and never holds them up. Beats, confirmations of starts and
acknowledgements come so often that only their number is kept, by minute and session.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tasker_zmq.commands.audit_rows import (
    UNANSWERED,
    Noted,
    Route,
    Subject,
    answered,
    data_of,
    either,
    in_context,
    kind_of,
    milliseconds,
    outcome_of,
    row_of,
    steps_of,
    subject_of,
    timed_out,
    word,
)
from tasker_zmq.commands.pending import (
    ANSWERED_WITHIN,
    GOODBYE,
    HEARTBEAT,
    PendingCommand,
    PendingCommands,
)
from tasker_zmq.commands.plugins import routes
from tasker_zmq.commands.tallies import Counted, Tallies, Tally
from tasker_zmq.domain.ids import SessionId, StepId
from tasker_zmq.protocol.commands import Command, InHand
from tasker_zmq.store.audit import AuditRow, Direction

COUNTED: Final = frozenset({HEARTBEAT, "ConfirmStart", "ResultsRecorded"})
UNANSWERED_SECONDS: Final = 60.0
OPEN_MAX: Final = 20_000
SESSIONS_MAX: Final = 50_000


class Cancelled(msgspec.Struct, frozen=True):
    """What CancelSteps says that matters here."""

    steps: tuple[InHand, ...] = ()


class Beat(msgspec.Struct, frozen=True):
    """What a heartbeat says that matters here."""

    in_hand: tuple[InHand, ...] = ()


@dataclass(slots=True, eq=False)
class Open:
    """A received command without its answer; counted ones make no row of their own."""

    key: tuple[Route, str]
    noted: Noted
    command: Command | None
    subject: Subject
    counted: bool
    done: bool = False


@dataclass
class Account:
    """The rows that noted frames make; `questions`: also of what changes nothing."""

    envelope_bytes_max: int
    questions: bool = True
    pending: PendingCommands = field(default_factory=PendingCommands)
    answered_within: Mapping[str, float] = field(default_factory=lambda: ANSWERED_WITHIN)
    _open: dict[tuple[Route, str], list[Open]] = field(default_factory=dict)
    _order: deque[Open] = field(default_factory=deque)
    _tallies: Tallies = field(default_factory=Tallies)
    _workers: dict[str, str] = field(default_factory=dict)  # by session

    def note(self, noted: Noted) -> list[AuditRow]:
        """What can be written down now that this passed by."""
        received = noted.direction is Direction.RECEIVED
        return self._receive(noted) if received else self._send(noted)

    def due(self, now: datetime) -> list[AuditRow]:
        """What can be written down because time has passed."""
        rows = [self._timed_out(each) for each in self.pending.expire(now)]
        horizon = now - timedelta(seconds=UNANSWERED_SECONDS)
        while self._order and (self._order[0].done or self._order[0].noted.at <= horizon):
            rows += self._give_up(self._order.popleft())
        return rows + [self._counted(*each) for each in self._tallies.over(now)]

    def close(self) -> list[AuditRow]:
        """Everything that is left, for nothing more will come."""
        rows = [row for each in self._order for row in self._give_up(each)]
        self._order.clear()
        return rows + [self._counted(*each) for each in self._tallies.everything()]

    def _receive(self, noted: Noted) -> list[AuditRow]:
        rows: list[AuditRow] = []
        command = noted.read()
        kind, subject = kind_of(command), self._known(subject_of(command))
        if command is not None and subject.session_id and kind in {HEARTBEAT, GOODBYE}:
            rows += self._hear(noted, command, SessionId(subject.session_id))
        if not self._wanted(kind):
            return rows
        key = (noted.route, command.command_id if command else "")
        entry = Open(key, noted, command, subject, counted=kind in COUNTED)
        self._open.setdefault(entry.key, []).append(entry)
        self._order.append(entry)
        if len(self._order) > OPEN_MAX:
            rows += self._give_up(self._order.popleft())
        return rows

    def _wanted(self, kind: str) -> bool:
        """What nobody knows is kept too: somebody tried it."""
        if self.questions:
            return True
        route = routes().get(kind)
        return not (route is not None and route.asks) and kind not in COUNTED

    def _send(self, noted: Noted) -> list[AuditRow]:
        command = noted.read()
        if command is None:
            return []
        subject = self._known(subject_of(command))
        if command.command_type in COUNTED:
            self._count_sent(noted, command, subject)
            return []
        rows: list[AuditRow] = []
        entry = self._answer(noted.route, command)
        is_reply = entry is not None or command.correlation_id is not None
        outcome = outcome_of(command) if is_reply else None
        if entry is not None and outcome is not None:
            if entry.counted:
                self._count_answered(entry, outcome, noted.at)
                return rows
            subject = either(subject, entry.subject)
            rows.append(
                self._row(entry.noted, entry.command, subject, outcome=outcome, until=noted.at)
            )
        elif is_reply and not self.questions:
            return rows  # to a question, which was not kept
        row = self._row(noted, command, subject, outcome=outcome)
        rows.append(in_context(row, entry.command if entry is not None else None))
        self._learn(subject)
        if not is_reply:
            rows += self._await(noted, command, subject)
        return rows

    def _answer(self, route: Route, command: Command) -> Open | None:
        """The oldest command that this is the answer to: the same id may come more than once."""
        waiting = self._open.get((route, command.correlation_id or ""))
        if not waiting:
            return None
        entry = waiting[0]
        self._end(entry)
        while self._order and self._order[0].done:
            self._order.popleft()
        return entry

    def _end(self, entry: Open) -> None:
        entry.done = True
        waiting = self._open[entry.key]
        waiting.remove(entry)
        if not waiting:
            del self._open[entry.key]

    def _give_up(self, entry: Open) -> list[AuditRow]:
        if entry.done:
            return []
        self._end(entry)
        if entry.counted:
            return []
        return [self._row(entry.noted, entry.command, entry.subject, outcome=UNANSWERED)]

    def _row(
        self,
        noted: Noted,
        command: Command | None,
        subject: Subject,
        *,
        outcome: str | None,
        until: datetime | None = None,
    ) -> AuditRow:
        return row_of(
            noted,
            command,
            subject,
            envelope_bytes_max=self.envelope_bytes_max,
            outcome=outcome,
            execution_time_ms=None if until is None else milliseconds(until - noted.at),
        )

    def _await(self, noted: Noted, command: Command, subject: Subject) -> Iterator[AuditRow]:
        seconds = self.answered_within.get(command.command_type)
        if seconds is None or subject.session_id is None:
            return
        told = PendingCommand(
            command_id=command.command_id,
            command_type=command.command_type,
            session_id=SessionId(subject.session_id),
            sent_at=noted.at,
            due_at=noted.at + timedelta(seconds=seconds),
            step_ids=steps_of(data_of(command, Cancelled).steps),
        )
        for given_up in self.pending.begin(told):
            yield self._timed_out(given_up)

    def _timed_out(self, told: PendingCommand) -> AuditRow:
        return timed_out(told, self._workers.get(told.session_id))

    def _hear(self, noted: Noted, command: Command, session_id: SessionId) -> Iterator[AuditRow]:
        in_hand: frozenset[StepId] = frozenset()
        if self.pending.waits_for_steps(session_id):
            in_hand = steps_of(data_of(command, Beat).in_hand)
        for told in self.pending.hear(session_id, kind_of(command), in_hand):
            yield answered(told, noted, command, worker_name=self._workers.get(session_id))

    def _count_answered(self, entry: Open, outcome: str, at: datetime) -> None:
        began, kind = entry.noted.at, kind_of(entry.command)
        session_id = word(entry.subject.session_id)
        counted = Counted(began, Direction.RECEIVED, kind, session_id, outcome)
        self._tallies.add(counted, milliseconds=milliseconds(at - began))

    def _count_sent(self, noted: Noted, command: Command, subject: Subject) -> None:
        if self.questions:
            session_id = word(subject.session_id)
            self._tallies.add(
                Counted(noted.at, noted.direction, command.command_type, session_id, None)
            )

    def _counted(self, counted: Counted, tally: Tally) -> AuditRow:
        """`execution_time_ms` is what one of them took on average."""
        asked = counted.direction == Direction.RECEIVED
        return AuditRow(
            created_at=counted.minute,
            direction=counted.direction,
            command_type=counted.command_type,
            session_id=counted.session_id,
            worker_name=self._workers.get(counted.session_id or ""),
            outcome=counted.outcome,
            messages=tally.messages,
            execution_time_ms=tally.milliseconds / tally.messages if asked else None,
        )

    def _known(self, subject: Subject) -> Subject:
        """With the worker's name, where only its session was said."""
        worker = None if subject.worker_name else self._workers.get(subject.session_id or "")
        return msgspec.structs.replace(subject, worker_name=worker) if worker else subject

    def _learn(self, subject: Subject) -> None:
        if subject.session_id and subject.worker_name:
            self._workers.pop(subject.session_id, None)
            self._workers[subject.session_id] = subject.worker_name[:200]
            if len(self._workers) > SESSIONS_MAX:
                del self._workers[next(iter(self._workers))]
