"""What command handlers work with."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from tasker_zmq.commands.answered import Answered
from tasker_zmq.commands.estimating import Estimates
from tasker_zmq.commands.replies import Asked
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.pipeline.state import Changes, CoreState
from tasker_zmq.pipeline.tick import Answers
from tasker_zmq.pipeline.tuning import Tuning, UuidMaker
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol.commands import DataPlane
from tasker_zmq.protocol.control import CONTROLLED_MAX
from tasker_zmq.store.definitions import Definition, Identified


@dataclass
class Desk:
    """The daemon's side of all commands: its memory and its numbers."""

    state: CoreState
    tuning: Tuning
    environment: str
    endpoints: DataPlane
    make_uuid: UuidMaker
    estimates: Estimates = field(default_factory=Estimates)
    inline: dict[bytes, Identified] = field(default_factory=dict)  # by what came along
    management: bool = False  # whether people may end workers by commands


@dataclass
class Allowance:
    """How many steps and letters people may still move in one tick, all commands together."""

    left: int = CONTROLLED_MAX

    def take(self, wanted: int) -> int:
        """As many of `wanted` as are left."""
        taken = min(wanted, self.left)
        self.left -= taken
        return taken

    def give_back(self, unused: int) -> None:
        self.left += unused


@dataclass(frozen=True)
class Sitting:
    """One tick's round of commands."""

    desk: Desk
    turn: Turn
    answers: Answers
    found: dict[tuple[str, str, str], Definition] = field(default_factory=dict)
    allowance: Allowance = field(default_factory=Allowance)
    answered: Answered = field(default_factory=Answered)
    awaited: set[str] = field(default_factory=set)  # ids of commands that dispatch will answer

    @property
    def connection(self) -> Connection:
        return self.turn.connection

    @property
    def changes(self) -> Changes:
        return self.turn.changes

    @property
    def now(self) -> datetime:
        return self.turn.now

    @property
    def answerer(self) -> Answerer:
        return Answerer(self.desk.state.core_id, self.turn.now)

    def keep(self, asked: Asked, letter: Letter) -> Letter:
        """An answer that came later than most; the same command, sent again, gets it again."""
        kept = {asked.command.command_id: letter.body}
        self.changes.then(lambda: self.answered.keep(kept))
        return letter


@dataclass(frozen=True, kw_only=True)
class Observing:
    """What a question is answered with beside the engine: rows, the moment, and the snapshot.

    `connect` opens a read-only transaction that sees one moment; it raises when the database is
    away.
    """

    connect: Callable[[], AbstractContextManager[Connection]]
    now: datetime
    monotonic: Callable[[], float]
    snapshot: Mapping[str, Any]
