"""The io thread's receiver: sorts what arrives: to the mailbox, to the readers, or answered."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasker_zmq.clock import Clock
from tasker_zmq.commands.answering import answer_question, read
from tasker_zmq.commands.ending import NOBODY, Management
from tasker_zmq.commands.envelope import line
from tasker_zmq.commands.replies import Asked
from tasker_zmq.commands.router import REPORTS, Lane, Route, command_type
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers
from tasker_zmq.daemon.trail import AuditTrail
from tasker_zmq.pipeline.inbox import (
    Letter,
    ReceivedCommand,
    ReceivedResult,
    Reporter,
    SubscriptionSeen,
)
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.transport.connections import Connection
from tasker_zmq.transport.loop import Frames, Receiver

logger = logging.getLogger(__name__)

# Seed workers ask for the word alone, careful ones with the space that ends a topic.
LEGACY_WISHES = (topics.LEGACY_STEPS_TOPIC, topics.STEPS.encode())

COMMAND_FRAMES_MIN = 2  # identity and JSON
COMMAND_FRAMES_MAX = 3  # identity, perhaps an empty delimiter, JSON


def _nobody_calls(_route: Route, _asked: Asked) -> None:
    """Where nothing may be called."""


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Where commands are answered: by the engine, by readers, from a snapshot.

    `trail` is where they leave a trace, if anywhere.
    """

    mailbox: Mailbox
    readers: Readers
    snapshot: Callable[[], Mapping[str, Any]]
    trail: AuditTrail | None = None
    management: Management = NOBODY
    call: Callable[[Route, Asked], None] = _nobody_calls


class FrontDesk(Receiver):
    """Runs on the io thread: quick, and never waiting for the database."""

    def __init__(
        self,
        lanes: Lanes,
        *,
        limits: WireLimits,
        core_id: str,
        clock: Clock,
        send: Callable[[Letter], None],
        legacy_workers: bool,
    ) -> None:
        self._mailbox = lanes.mailbox
        self._readers = lanes.readers
        self._snapshot = lanes.snapshot
        self._trail = lanes.trail
        self._management = lanes.management
        self._call = lanes.call
        self._limits = limits
        self._core_id = core_id
        self._clock = clock
        self._send = send
        self._legacy_workers = legacy_workers
        self._legacy = False
        self._legacy_connection: Connection | None = None
        self._subscribers: Counter[bytes] = Counter()
        self._had_room = True
        self.granted: frozenset[bytes] = frozenset()

    def results(self, messages: Sequence[Frames]) -> None:
        """They are read here, while the engine waits for PostgreSQL."""
        decode, limits = codec.decode_result, self._limits
        self._mailbox.put_results(
            [ReceivedResult(tuple(each), decoded=decode(each, limits)) for each in messages]
        )

    def command(self, frames: Frames) -> None:
        route, body = tuple(frames[:-1]), frames[-1]
        if not COMMAND_FRAMES_MIN <= len(frames) <= COMMAND_FRAMES_MAX:
            route, body = (frames[0],), b""
        now = self._clock.now()
        received, by = ReceivedCommand(route, body, now), Answerer(self._core_id, now)
        found = read(received, self._limits, by=by)
        command = None if isinstance(found, Letter) else found[1].command
        if self._trail is not None:
            self._trail.received(received, command)
        if isinstance(found, Letter):
            self._send(found)
        else:
            self._sort(ReceivedCommand(route, body, now, command), *found, by=by)

    def _sort(self, received: ReceivedCommand, route: Route, asked: Asked, *, by: Answerer) -> None:
        if route.lane is Lane.ENGINE_LATER:
            self._mailbox.put(received, later=True, urgency=line(asked.command))
        elif route.lane is Lane.ENGINE:
            self._mailbox.put(received)
        elif route.lane is Lane.RESULT:
            self._report(asked)
        elif route.lane in {Lane.READER, Lane.OBSERVER}:
            self._readers.ask(route, asked)
        elif route.lane is Lane.WAIT:
            self._readers.waits.ask(route, asked)
        elif route.lane is Lane.CALL:
            self._call(route, asked)
        else:
            managed = route.lane is Lane.MANAGEMENT
            at_hand = self._management if managed else self._snapshot()
            self._send(answer_question(route, asked, at_hand, by=by))

    def _report(self, asked: Asked) -> None:
        """A result in a command goes the way of those from the result socket."""
        command = asked.command
        head = f"{REPORTS[command_type(command.command_type)]} ".encode()
        reporter = Reporter(asked.route, command.command_id)
        self._mailbox.put(ReceivedResult((head + bytes(command.payload.data),), reporter))

    def subscription(
        self, topic: bytes, *, subscribed: bool, connection: Connection | None
    ) -> bool:
        if topic in LEGACY_WISHES:
            if subscribed:
                return self._legacy_subscription(connection)
            return self._legacy_end(connection)
        if topic not in self.granted:
            self._subscribers.pop(topic, None)
            if subscribed:
                log(logger, logging.WARNING, Event.SUBSCRIPTION_REFUSED, topic=topic[:80])
            return False
        # After a broken connection the end of the old one may be seen after the new one's start.
        self._subscribers[topic] = max(0, self._subscribers[topic] + (1 if subscribed else -1))
        self._mailbox.put(SubscriptionSeen(topic, self._subscribers[topic] > 0))
        return True

    def narrowed(self, topic: bytes) -> bytes:
        """A bare `steps` would also be the beginning of every session's topic."""
        return topics.LEGACY_STEPS_TOPIC if topic in LEGACY_WISHES else topic

    def _legacy_subscription(self, connection: Connection | None) -> bool:
        """At most one: work that is broadcast would be run by every subscriber."""
        if not self._legacy_workers or self._legacy_is_here():
            log(logger, logging.WARNING, Event.SUBSCRIPTION_REFUSED, topic="steps")
            return False
        self._legacy, self._legacy_connection = True, connection
        log(logger, logging.WARNING, Event.LEGACY_WORKER_SEEN, acknowledged=False)
        self._mailbox.put(SubscriptionSeen(topics.LEGACY_STEPS_TOPIC, subscribed=True))
        return True

    def _legacy_end(self, connection: Connection | None) -> bool:
        """Of the one that was granted it, or of one that was refused: libzmq does not say whose."""
        if connection != self._legacy_connection and self._legacy_is_here():
            return False
        self._legacy, self._legacy_connection = False, None
        self._mailbox.put(SubscriptionSeen(topics.LEGACY_STEPS_TOPIC, subscribed=False))
        return True

    def _legacy_is_here(self) -> bool:
        known = self._legacy_connection
        return self._legacy and (known is None or known.is_open)

    def room(self) -> bool:
        has_room = self._mailbox.room
        if self._had_room and not has_room:
            log(logger, logging.WARNING, Event.INBOX_FULL, inbox=len(self._mailbox))
        self._had_room = has_room
        return has_room

    def unsent(self, topic: bytes) -> None:
        log(logger, logging.DEBUG, Event.PUBLICATION_POSTPONED, topic=topic)
