"""What a tick is given and what it wants sent after the commit."""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tasker_zmq.domain.ids import BatchId, TaskId
from tasker_zmq.protocol.codec import Decoded, Undecodable
from tasker_zmq.protocol.commands import Command


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reported a result as a command, and the id of that."""

    route: tuple[bytes, ...]
    command_id: str


class ReceivedResult(msgspec.Struct, frozen=True, gc=False):
    """A message from the result socket, or the same in a command.

    `decoded` is there if somebody has read it already.
    """

    frames: tuple[bytes, ...]
    asked: Reporter | None = None
    decoded: Decoded | Undecodable | None = None

    @property
    def size(self) -> int:
        return sum(len(frame) for frame in self.frames)


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command: `route` is where the reply goes, frames of the transport's own.

    `command` is there if somebody has read it already.
    """

    route: tuple[bytes, ...]
    body: bytes
    received_at: datetime | None = None
    command: Command | None = None

    @property
    def size(self) -> int:
        return len(self.body)


@dataclass(frozen=True, slots=True)
class SubscriptionSeen:
    """A subscriber of the step publisher came (or went, which is only a hint)."""

    topic: bytes
    subscribed: bool

    @property
    def size(self) -> int:
        return len(self.topic)


@dataclass(frozen=True, slots=True)
class SubmissionsNotified:
    """PostgreSQL says that somebody asked for a task by SQL."""

    @property
    def size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class CoreEnded:
    """PostgreSQL says that another core has given up its work."""

    @property
    def size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class CoreStarted:
    """PostgreSQL says that another core has begun."""

    @property
    def size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class WorkersManaged:
    """PostgreSQL says that somebody decided something about workers."""

    @property
    def size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class StepsReady:
    """Another core says that in these tasks of this one there are steps to be sent."""

    task_ids: tuple[TaskId, ...]

    @property
    def size(self) -> int:
        return 8 * len(self.task_ids)


Received = (
    ReceivedResult
    | ReceivedCommand
    | SubscriptionSeen
    | SubmissionsNotified
    | CoreEnded
    | CoreStarted
    | WorkersManaged
    | StepsReady
)


@dataclass(frozen=True, slots=True)
class Publication:
    """One frame for the step publisher: topic and JSON."""

    batch_id: BatchId
    topic: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """One command or reply for one peer."""

    route: tuple[bytes, ...]
    body: bytes


@dataclass
class Outbox:
    """Sent after the commit, never before."""

    publications: list[Publication] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    ended: list[TaskId] = field(default_factory=list)  # tasks for whose end somebody may wait

    def extend(self, other: "Outbox") -> None:
        self.publications.extend(other.publications)
        self.letters.extend(other.letters)

    def __bool__(self) -> bool:
        return bool(self.publications or self.letters or self.ended)
