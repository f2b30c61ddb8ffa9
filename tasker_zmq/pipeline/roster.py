"""The sessions that a core knows, and which of them may run steps of which kind.

Found once per kind and kept up as sessions come and go: a tick must not ask a thousand sessions for
each of hundreds of kinds.
"""

from collections import UserDict
from collections.abc import Collection, Iterator, ValuesView
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasker_zmq.domain.administration import NOTHING_DECIDED, Administration, WorkerMode
from tasker_zmq.domain.ids import HandlerClass, SessionId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.domain.supported import PRIORITY

if TYPE_CHECKING:
    from tasker_zmq.pipeline.state import Session


@dataclass(eq=False)
class Able:
    """The sessions that may run steps of one kind, or of one handler when kinds do not matter."""

    handler_class: HandlerClass
    task: TaskName | None = None  # None: of any
    pinned_to: frozenset[str] | None = None  # the workers that alone may run them
    _registered: dict[SessionId, "Session"] = field(default_factory=dict)
    _last_resort: dict[SessionId, "Session"] = field(default_factory=dict)
    _choosy: set[SessionId] = field(default_factory=set)
    priorities: dict[SessionId, int] = field(default_factory=dict)  # where not the usual one

    @property
    def sessions(self) -> Collection["Session"]:
        """In the order in which they came; the one without a name only when nobody else can."""
        return (self._registered or self._last_resort).values()

    @property
    def choosy(self) -> bool:
        """Whether it matters to one of them of which named task a step is."""
        return bool(self._choosy)

    def add(self, session: "Session") -> None:
        """Take a session in if it may run such steps."""
        if not session.can_run(self.handler_class):
            return
        if self.pinned_to is not None:
            if session.worker_name not in self.pinned_to:
                return
        elif self.task is not None and not session.declared.allows(self.task):
            return
        known = self._last_resort if session.nameless else self._registered
        known[session.session_id] = session
        if session.declared.choosy:
            self._choosy.add(session.session_id)
        found = None if self.task is None else session.declared.find(self.task)
        if found is not None and found.priority != PRIORITY:
            self.priorities[session.session_id] = found.priority

    def remove(self, session_id: SessionId) -> None:
        self._registered.pop(session_id, None)
        self._last_resort.pop(session_id, None)
        self._choosy.discard(session_id)
        self.priorities.pop(session_id, None)


class Roster(UserDict[SessionId, "Session"]):
    """Sessions by id; `able` answers from what it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self._by_handler: dict[HandlerClass, Able] = {}
        self._by_kind: dict[Kind, Able] = {}
        self.administration = NOTHING_DECIDED

    def administer(self, decided: Administration) -> None:
        """From now on these sessions get nothing new, and pinned steps go to these workers."""
        for session in self.values():
            session.draining = decided.mode(session.worker_name) is not WorkerMode.ENABLED
        if decided.pins != self.administration.pins:
            self._by_kind.clear()
        self.administration = decided

    def able(self, kind: Kind, task: TaskName) -> Able:
        """Who may run steps of this kind, be there room or not."""
        of_handler = self._by_handler.get(kind.handler_class)
        if of_handler is None:
            of_handler = self._found(Able(kind.handler_class))
            self._by_handler[kind.handler_class] = of_handler
        if not (of_handler.choosy or self.administration.pins):
            return of_handler
        known = self._by_kind.get(kind)
        if known is None:
            pinned_to = self.administration.pinned_to(kind, task)
            known = self._found(Able(kind.handler_class, task, pinned_to))
            self._by_kind[kind] = known
        return known

    def _found(self, able: Able) -> Able:
        for session in self.values():
            able.add(session)
        return able

    def _ables(self) -> Iterator[Able]:
        yield from self._by_handler.values()
        yield from self._by_kind.values()

    def values(self) -> ValuesView["Session"]:  # the inherited one looks each up by its key
        return self.data.values()

    def __setitem__(self, session_id: SessionId, session: "Session") -> None:
        if session.worker_name in self.administration.modes:
            session.draining = True
        super().__setitem__(session_id, session)
        for able in self._ables():
            able.remove(session_id)
            able.add(session)

    def __delitem__(self, session_id: SessionId) -> None:
        super().__delitem__(session_id)
        for able in self._ables():
            able.remove(session_id)
