"""What one core remembers between ticks; it can be made again from rows and registrations.

Stages never change it while a transaction runs: they append to `Changes`, carried out after the
commit, so that a rolled-back tick leaves no trace.
"""

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from tasker_zmq.domain.credit import LONG, Pace, burst_share
from tasker_zmq.domain.fairness import Turns
from tasker_zmq.domain.ids import (
    BatchId,
    CoreId,
    HandlerClass,
    NamedStepId,
    NamedTaskId,
    RegistrationId,
    SessionId,
    StepId,
)
from tasker_zmq.domain.supported import NOTHING_DECLARED, Declared
from tasker_zmq.pipeline.beats import Beats
from tasker_zmq.pipeline.breakers import Breakers
from tasker_zmq.pipeline.contents import Contents
from tasker_zmq.pipeline.in_flight import InFlight
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.reached import Reached
from tasker_zmq.pipeline.roster import Roster
from tasker_zmq.pipeline.viable import ViableSteps
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import definitions as definition_store
from tasker_zmq.store.definitions import Definition, Identified, StepDefinition
from tasker_zmq.store.steps import NewTask
from tasker_zmq.store.workers import Beat

LEGACY_SESSION = SessionId("legacy")
IDS_PER_BLOCK = 1_000
WARY_TICKS = 100

Named = tuple[str | None, str | None, str | None]  # namespace, name, version


@dataclass
class Sent:
    """A batch that a session has not finished; `missed` counts the heartbeats without it."""

    batch_id: BatchId
    batch_uuid: str
    publication: int = 0
    delivery: int = 1
    size: int = 0  # bytes
    at: datetime | None = None  # None: before this core knew of it
    confirm_start: bool = False
    unfinished: int = 0
    missed: int = 0
    reached: bool = False  # its worker has named it


@dataclass
class Session:
    """A worker's session as this core sees it; `holding` are the steps it has in hand."""

    session_id: SessionId
    registration_id: RegistrationId | None
    worker_name: str
    route: tuple[bytes, ...]
    handlers: frozenset[HandlerClass] | None  # None: runs whatever it is sent
    concurrency: int
    credit: int
    last_heard_at: datetime
    declared: Declared = NOTHING_DECLARED
    confirms_start: bool = False  # it asks before it begins a step that must not run twice
    subscribed: bool = False
    draining: bool = False
    leaving: bool = False  # it was told to end
    suspect: bool = False  # silent for a while: until it is heard again it is sent nothing
    publication: int = 0
    deaf: bool = False  # it beats, but gets nothing: it must register again
    doubted_at: datetime | None = None  # its subscriber left: it was asked for a sign of life
    compared_at: datetime | None = None
    named: frozenset[str] = frozenset()  # the batches that its last heartbeat had in hand
    named_at: datetime | None = None
    succeeded: tuple[SessionId, ...] = ()  # earlier sessions of the very same process
    holding: dict[StepId, BatchId] = field(default_factory=dict)
    sent: dict[BatchId, Sent] = field(default_factory=dict)
    load: int = 0
    beat: Beat | None = None  # as its row has it
    last_turn: int = 0  # in which it was chosen last, of the core's turns
    granted: int | None = None  # the credit that it may shrink to, as steps end
    elsewhere: int = 0  # steps that its worker may hold of other cores
    burst_max: int = 0  # steps that its worker can hold if they end at once; 0: its credit is all
    burst: int = 0  # this core's part of them
    pace: Pace = field(default_factory=Pace)

    @property
    def nameless(self) -> bool:
        """Whether it is the one of workers that only subscribe."""
        return self.session_id == LEGACY_SESSION

    def can_run(self, handler: HandlerClass) -> bool:
        """Whether it has the handler; whether it takes the named task is for `declared` to say."""
        return self.handlers is None or handler in self.handlers

    def room(self, now: datetime, *, ended: int = 0) -> int:
        """How many more steps it may be sent when so many of those that it has are over."""
        if self.draining or self.leaving or self.suspect or self.deaf or not self.subscribed:
            return 0
        held = len(self.holding) - ended
        credit = self.credit if self.granted is None else min(self.credit, max(self.granted, held))
        if self.burst > credit:
            credit = max(credit, min(self.burst, self._brisk(now, ended=ended)))
        return max(0, credit - held)

    def _brisk(self, now: datetime, *, ended: int) -> int:
        """How many steps it ends in a moment; none if it has one in hand that takes long."""
        oldest = next(iter(self.sent.values()), None)
        if oldest is not None and (oldest.at is None or now - oldest.at > LONG):
            return 0
        return self.pace.lately(now) + ended

    @property
    def size(self) -> int:
        """Bytes that it was sent and has not finished."""
        return sum(sent.size for sent in self.sent.values())

    def has_had(self, batch_id: BatchId) -> bool:
        """Whether it has ever named this batch: then steps of it may have begun."""
        return batch_id in self.sent and self.sent[batch_id].reached

    def grant(self, credit: int, *, whole: int) -> None:
        """Let it hold so many steps; what it has already is not taken back."""
        self.granted = credit
        self.burst = burst_share(self.burst_max, credit=credit, whole=whole)
        self.elsewhere = whole - 1 if credit < whole else 0  # for the shares may just have changed
        held = len(self.holding)
        self.credit = credit if held <= self.burst_max else max(credit, held)

    def take(self, sent: Sent, step_ids: Collection[StepId]) -> None:
        """It has these steps of a batch in hand now."""
        kept = self.sent.setdefault(sent.batch_id, sent)
        fresh = [each for each in step_ids if self.holding.get(each) != sent.batch_id]
        kept.unfinished += len(fresh)
        self.holding.update(dict.fromkeys(fresh, sent.batch_id))

    def release(self, step_ids: Iterable[StepId], batch_id: BatchId) -> int:
        """It no longer has these steps of a batch; how many of them it had."""
        released = 0
        for step_id in step_ids:
            if self.holding.get(step_id) == batch_id:
                released += 1
                del self.holding[step_id]
                sent = self.sent[batch_id]
                sent.unfinished -= 1
                if not sent.unfinished:
                    del self.sent[batch_id]
        if self.granted is not None:
            self.credit = min(self.credit, max(self.granted, len(self.holding)))
        return released


class Schedule:
    """Moments at which batches want to be looked at; the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, BatchId]] = []
        self._due: dict[BatchId, datetime] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, batch_id: object) -> bool:
        return batch_id in self._due

    def put(self, batch_id: BatchId, at: datetime) -> None:
        self._due[batch_id] = at
        heapq.heappush(self._heap, (at, batch_id))

    def drop(self, batch_id: BatchId) -> None:
        self._due.pop(batch_id, None)

    def postpone(self, by: timedelta) -> None:
        """Move every moment."""
        for batch_id, at in list(self._due.items()):
            self.put(batch_id, at + by)

    def earliest(self) -> datetime | None:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: datetime, at_most: int) -> list[BatchId]:
        """Up to `at_most` batches whose moment has come; they stay until dropped or put again."""
        held: list[tuple[datetime, BatchId]] = []
        while len(held) < at_most:
            earliest = self.earliest()
            if earliest is None or earliest > now:
                break
            held.append(heapq.heappop(self._heap))
        for entry in held:
            heapq.heappush(self._heap, entry)
        return list(dict.fromkeys(batch_id for _, batch_id in held))


@dataclass(frozen=True, kw_only=True)
class PendingPing:
    """Somebody asked after a worker; `answer` gets when it was heard, if it was, and the time."""

    session_id: SessionId
    due_at: datetime
    answer: Callable[[datetime | None, datetime], Letter]


@dataclass
class CoreState:
    """One core's memory."""

    core_id: CoreId
    epoch: int
    viable: ViableSteps
    contents: Contents = field(default_factory=Contents)
    in_flight: InFlight = field(default_factory=InFlight)
    sessions: Roster = field(default_factory=Roster)
    breakers: Breakers = field(default_factory=Breakers)
    quiet_until: datetime | None = None  # no session can fall silent before; None: look
    turn: int = 0  # counts the choices of sessions
    turns: Turns = field(default_factory=Turns)  # of namespaces and kinds that wait for room
    subscriptions: dict[bytes, int] = field(default_factory=dict)
    deadlines: Schedule = field(default_factory=Schedule)
    unreconciled: Schedule = field(default_factory=Schedule)
    published: dict[BatchId, datetime] = field(default_factory=dict)
    next_retry_at: datetime | None = None
    next_sweep_at: datetime | None = None
    quiet_sweeps: int = 0  # in a row, in each of which nothing was under way
    awake_until: datetime | None = None  # till then no rest is taken
    full_sweep_at: datetime | None = None  # while other cores live: they may have made steps ready
    back_at: datetime | None = None  # when its last long absence was over
    submissions_at: datetime | None = None  # when the next one is due that is known of
    scheduled_at: datetime | None = None  # when the next task's time comes that is known of
    sweep_cursor: tuple[int, int] | None = None
    next_page_at: datetime | None = None  # of a sweep that found memory full
    beats: Beats = field(default_factory=Beats)
    reached: Reached = field(default_factory=Reached)
    cores: tuple[CoreAddress, ...] = ()  # that live, this one among them
    neighbours: dict[CoreId, datetime] = field(default_factory=dict)  # the others' leases
    lease_renewed_at: datetime | None = None
    partitions_made_at: datetime | None = None
    administered_at: datetime | None = None  # when it was last looked up what people decided
    pings: list[PendingPing] = field(default_factory=list)
    draining: bool = False
    wary: int = 0  # so many ticks will wait and see what is there before they build on it
    unsure: bool = False  # the outcome of a commit is unknown: rows may say more than memory
    definitions: dict[NamedTaskId, Definition] = field(default_factory=dict)
    identified: dict[Named, Identified] = field(default_factory=dict)
    _steps: dict[tuple[NamedTaskId, NamedStepId], StepDefinition] = field(default_factory=dict)
    _ids: dict[str, list[int]] = field(default_factory=dict)

    def definition(
        self, connection: Connection, named_task_id: NamedTaskId, *, digest: str | None = None
    ) -> Definition:
        """A definition by id; read once, since published definitions in use never change.

        One without tasks may have been replaced by another core: `digest` is what it must have.
        """
        known = self.definitions.get(named_task_id)
        if known is not None and digest not in {None, known.template_digest}:
            self.forget(named_task_id)
            known = None
        if known is None:
            known = definition_store.load(connection, named_task_id)
            self.remember(known)
        return known

    def remember(self, definition: Definition) -> None:
        self.definitions[definition.named_task_id] = definition
        for step in definition.steps:
            self._steps[definition.named_task_id, step.named_step_id] = step

    def forget(self, named_task_id: NamedTaskId) -> None:
        known = self.definitions.pop(named_task_id, None)
        for step in known.steps if known else ():
            self._steps.pop((named_task_id, step.named_step_id), None)

    def step_definition(
        self, connection: Connection, named_task_id: NamedTaskId, named_step_id: NamedStepId
    ) -> StepDefinition:
        known = self._steps.get((named_task_id, named_step_id))
        if known is None:
            self.definition(connection, named_task_id)
            known = self._steps[named_task_id, named_step_id]
        return known

    def doubt(self) -> None:
        """Ask the rows again: what memory has of them may be why a tick failed."""
        self.contents.clear()
        self.in_flight.clear()
        self.identified.clear()
        self.wary = WARY_TICKS

    def calm_down(self) -> None:
        """A tick went through."""
        self.wary = max(0, self.wary - 1)

    def drain(self) -> None:
        """Send nothing new, take no new tasks; from any thread."""
        self.draining = True

    def look_for_submissions(self, at: datetime | None) -> None:
        self.submissions_at = at

    def set_next_retry(self, at: datetime | None) -> None:
        self.next_retry_at = at

    def take_step_ids(self, connection: Connection, tasks: Iterable[NewTask]) -> list[int]:
        """Fresh ids for the steps of tasks that are to be created."""
        count = sum(task.step_count for task in tasks)
        return self.take_ids(connection, "tasker_workflow_steps", "workflow_step_id", count=count)

    def take_ids(self, connection: Connection, table: str, column: str, *, count: int) -> list[int]:
        """Fresh ids from a block; those of a tick that is rolled back are gaps: nobody minds."""
        block = self._ids.setdefault(table, [])
        if len(block) < count:
            block.extend(
                batch_store.reserve_ids(connection, table, column, count=max(count, IDS_PER_BLOCK))
            )
        taken, self._ids[table] = block[:count], block[count:]
        return taken


@dataclass
class Changes:
    """What a tick wants remembered, carried out after its commit."""

    _deeds: list[Callable[[], object]] = field(default_factory=list)

    def then(self, deed: Callable[[], object]) -> None:
        self._deeds.append(deed)

    def carry_out(self) -> None:
        for deed in self._deeds:
            deed()
