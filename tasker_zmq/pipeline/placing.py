"""Which waiting steps get the room that sessions have, and which session each of them goes to."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from tasker_zmq.domain.administration import WorkerMode
from tasker_zmq.domain.breaker import Pair
from tasker_zmq.domain.fairness import Line, Taken, take_turns
from tasker_zmq.domain.ids import SessionId, StepId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.domain.selection import Candidate, select
from tasker_zmq.domain.supported import PRIORITY
from tasker_zmq.pipeline.breakers import Breakers
from tasker_zmq.pipeline.requests import Loaded
from tasker_zmq.pipeline.roster import Able
from tasker_zmq.pipeline.state import Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

NOBODYS: Final = -1  # instead of the number of a wish: dispatch has chosen


@dataclass(frozen=True)
class _Fit:
    """Who may run steps of a kind at all, and those of them that this tick may send to.

    Those that are `tried` get one step, to see whether they can do it again.
    """

    able: Able
    sessions: Collection[Session]
    tried: Collection[SessionId] = frozenset()


class _Rooms(dict[SessionId, int]):
    """How many more steps each session may be sent in this tick; asked when first needed."""

    def __init__(self, turn: Turn, kept: Mapping[SessionId, int]) -> None:
        super().__init__()
        self._turn, self._kept = turn, kept

    def __missing__(self, session_id: SessionId) -> int:
        session = self._turn.state.sessions[session_id]
        room = self[session_id] = self._turn.room_of(session) - self._kept.get(session_id, 0)
        return room


class _Places:
    """The room of the sessions that may run steps of one kind."""

    def __init__(self, fit: _Fit, rooms: _Rooms) -> None:
        self._sessions: Iterator[Session] = iter(fit.sessions)
        self._at = next(self._sessions, None)
        self._tried = fit.tried
        self._rooms = rooms

    def left(self) -> bool:
        while self._at is not None and self._rooms[self._at.session_id] <= 0:
            self._at = next(self._sessions, None)
        return self._at is not None

    def take(self) -> bool:
        if not self.left() or self._at is None:
            return False
        self._rooms[self._at.session_id] -= 1
        if self._at.session_id in self._tried:
            self._at = next(self._sessions, None)
        return True


Share = tuple[SessionId, bool, int]  # a session, whether it asks first, and whose wish it is


@dataclass
class _Assigned:
    """The steps of each session so far; `sizes` are bytes that it would have in hand."""

    sessions: Mapping[SessionId, Session]
    bytes_max: int
    given: Counter[SessionId] = field(default_factory=Counter)
    sizes: dict[SessionId, int] = field(default_factory=dict)
    shares: dict[Share, list[Loaded]] = field(default_factory=dict)

    def put(self, step: Loaded, session_id: SessionId, wish: int = NOBODYS) -> None:
        """Give a step to a session, unless that has so many bytes that the step must wait."""
        if session_id not in self.sizes:
            self.sizes[session_id] = self.sessions[session_id].size
        size = self.sizes[session_id]
        if size and size + step.size > self.bytes_max:
            return  # it waits until the session has finished some of what it has
        self.sizes[session_id] = size + step.size
        self.shares.setdefault((session_id, step.once, wish), []).append(step)
        self.given[session_id] += 1


class Placing:
    """One tick's choice of steps and of sessions."""

    def __init__(self, turn: Turn, breakers: Breakers) -> None:
        self._turn = turn
        self._breakers = breakers
        self.probes: dict[StepId, Pair] = {}  # steps by which workers are tried
        self._fits: dict[Kind, _Fit] = {}
        self._directed: dict[StepId, tuple[SessionId, int]] = {}
        self._kept: Counter[SessionId] = Counter()

    def keep_room(self, session_id: SessionId, step_id: StepId, *, wish: int) -> str | None:
        """Keep a place in this session for a step; or why there is none."""
        if step_id in self._directed:
            return "it is being sent by another command"
        session = self._turn.state.sessions.get(session_id)
        if session is None or session_id in self._turn.gone:
            return "the worker has just gone"
        problem = self._trouble(session)
        if problem is None and self._turn.room_of(session) <= self._kept[session_id]:
            problem = f"the worker has all that its credit allows in hand ({session.credit} steps)"
        if problem is None:
            self._directed[step_id] = (session_id, wish)
            self._kept[session_id] += 1
        return problem

    def _trouble(self, session: Session) -> str | None:
        mode = self._turn.state.sessions.administration.mode(session.worker_name)
        if mode is not WorkerMode.ENABLED:
            return f"the worker is {mode}"
        if session.session_id in self._turn.barred:
            return "the worker is to get nothing new, as was decided just now"
        if session.leaving:
            return "the worker was told to end"
        if session.deaf or session.session_id in self._turn.deaf:
            return "the worker is deaf: what is published does not reach it"
        if session.suspect or session.session_id in self._turn.suspect:
            return "the worker is silent: nothing was heard of it for a while"
        return None if session.subscribed else "the worker has not subscribed yet"

    def choose(self, fresh: Collection[Entry]) -> list[Entry]:
        """Steps worth loading: the most urgent first, and no more than there is room for.

        Among equally urgent ones namespaces take turns, and so do the kinds of one namespace.
        """
        lines = self._lines(fresh)
        chosen: list[Entry] = []
        for lane in sorted(lines):
            left = self._turn.tuning.dispatch_max - len(chosen)
            taken = take_turns(lines[lane], self._turn.state.turns, at_most=left)
            chosen += taken.steps
            self._note(taken)
        return chosen

    def _note(self, taken: Taken[Entry]) -> None:
        self._turn.changes.then(lambda: self._turn.state.turns.note(taken.turns))

    def _lines(self, fresh: Collection[Entry]) -> dict[int, list[Line[Entry]]]:
        """By lane, for those kinds for which there is room."""
        waiting = self._turn.state.viable
        arrived = waiting.apart(fresh)
        rooms = _Rooms(self._turn, self._kept)
        places: dict[int, _Places] = {}
        lines: dict[int, list[Line[Entry]]] = {}
        for kind, task in {**waiting.kinds(), **arrived.kinds()}.items():
            fit = self._fit(kind, task)
            shared = places.get(id(fit.able))
            if shared is None:
                shared = places[id(fit.able)] = _Places(fit, rooms)
            if not shared.left():
                continue
            for lane in {*waiting.lanes(kind), *arrived.lanes(kind)}:
                entries = chain(waiting.lane(kind, lane), arrived.lane(kind, lane))
                line = Line(task.namespace, kind, self._unsettled(entries), shared)
                lines.setdefault(lane, []).append(line)
        return lines

    def _unsettled(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        settled = self._turn.settled
        if self._directed:
            settled = settled | self._directed.keys()
        return (each for each in entries if each[0].step_id not in settled) if settled else entries

    def _fit(self, kind: Kind, task: TaskName) -> _Fit:
        found = self._fits.get(kind)
        if found is None:
            able = self._turn.state.sessions.able(kind, task)
            found = self._fits[kind] = self._found(able)
        return found

    def _found(self, able: Able) -> _Fit:
        turn = self._turn
        passed_over = turn.gone | turn.suspect | turn.deaf.keys() | turn.barred
        shut = self._breakers.shut(able.handler_class)
        if not (passed_over or shut):
            return _Fit(able, able.sessions)
        sessions = [each for each in able.sessions if each.session_id not in passed_over]
        sound = [each for each in sessions if each.worker_name not in shut]
        tried = {
            each.worker_name: each  # a worker may have two sessions for a while
            for each in sessions
            if each.worker_name in shut
            and turn.room_of(each) > 0
            and not self._breakers.bars(_pair(each, able), turn.now, under_way=turn.state.deadlines)
        }.values()
        return _Fit(able, [*sound, *tried], frozenset(each.session_id for each in tried))

    def assign(self, steps: Sequence[Loaded]) -> dict[Share, list[Loaded]]:
        """The steps of each session; apart those that it must ask about before it begins them.

        So are those of each wish, and a step by which a worker is tried. One for which there is no
        room after all is left out, and waits.
        """
        assigned = _Assigned(self._turn.state.sessions, self._turn.tuning.session_bytes_max)
        free = steps
        if self._directed:
            free = [each for each in steps if each.row.step_id not in self._directed]
            for step in steps:
                if step.row.step_id in self._directed:
                    session_id, wish = self._directed[step.row.step_id]
                    assigned.put(step, session_id, wish)
        for fit, wanted in self._by_fit(free):
            selected = self._select(fit, len(wanted), assigned.given)
            for step, session_id in zip(wanted, selected, strict=False):
                assigned.put(step, session_id, self._share(fit, session_id, step))
        self._turn.changes.then(lambda: self._note_chosen(assigned.given))
        return assigned.shares

    def _share(self, fit: _Fit, session_id: SessionId, step: Loaded) -> int:
        """Nobody's, like most of them; of its own for a step by which a worker is tried."""
        if session_id not in fit.tried:
            return NOBODYS
        self.probes[step.row.step_id] = _pair(self._turn.state.sessions[session_id], fit.able)
        return NOBODYS - len(self.probes)

    def _by_fit(self, steps: Sequence[Loaded]) -> list[tuple[_Fit, list[Loaded]]]:
        """Steps of kinds that the same sessions may run are placed together."""
        found: dict[int, tuple[_Fit, list[Loaded]]] = {}
        for step in steps:
            kind = self._turn.state.viable.kind_of(step.row.task_id, step.definition)
            fit = self._fit(kind, step.definition.named_task)
            found.setdefault(id(fit.able), (fit, []))[1].append(step)
        return list(found.values())

    def _select(self, fit: _Fit, steps: int, given: Mapping[SessionId, int]) -> list[SessionId]:
        priority_of = fit.able.priorities.get
        probed = set(self.probes.values())  # by steps of another workflow
        candidates = []
        for session in fit.sessions:
            session_id, held = session.session_id, given.get(session.session_id, 0)
            room = self._turn.room_of(session) - held
            if session_id in fit.tried:
                room = 0 if _pair(session, fit.able) in probed else min(room, 1)
            if room > 0:
                candidates.append(
                    Candidate(
                        session_id,
                        self._turn.held_by(session) + held,
                        session.concurrency,
                        room,
                        priority_of(session_id, PRIORITY),
                        session.last_turn,
                    )
                )
        chosen, problem = select(self._turn.tuning.strategy, candidates, steps)
        if problem is not None:
            log(logger, logging.WARNING, Event.SELECTION_FAILED, problem=problem[:300])
        return chosen

    def _note_chosen(self, sessions: Collection[SessionId]) -> None:
        state = self._turn.state
        state.turn += 1
        for session_id in sessions:
            if session_id in state.sessions:
                state.sessions[session_id].last_turn = state.turn


def _pair(session: Session, able: Able) -> Pair:
    return Pair(session.worker_name, able.handler_class)
