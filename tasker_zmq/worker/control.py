"""The control link: find the daemon, register, beat, notice when it is gone, and begin again."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from tasker_zmq.clock import Clock, IdMaker
from tasker_zmq.domain.ids import SessionId
from tasker_zmq.errors import ProtocolError, RefusedError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ERROR,
    CancelSteps,
    Command,
    CommandMetadata,
    ConfirmStart,
    ErrorData,
    HeartbeatReceived,
    Payload,
    Peer,
    RegisterWorker,
    ResultsRecorded,
    StartConfirmed,
    WorkerGoodbye,
    WorkerHeartbeat,
    WorkerRegistered,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.management import Shutdown
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.runs import printable
from tasker_zmq.worker.sockets import CommandSocket

REPLY_SECONDS: Final = 5.0
REPLY_SECONDS_MAX: Final = 15.0
PATIENCE_SECONDS: Final = 1.0  # how long the daemon may be away before the log says so
SILENT_HEARTBEATS_MAX: Final = 3
QUESTION_IDS_MAX: Final = 1_000
UNKNOWN_SESSION: Final = "unknown_session"

_log = logging.getLogger(__name__)

News = (
    WorkerRegistered | HeartbeatReceived | ResultsRecorded | StartConfirmed | CancelSteps | Shutdown
)
ANSWERS: Final[Mapping[str, type[StartConfirmed | HeartbeatReceived]]] = {
    "ConfirmStart": StartConfirmed,
    "WorkerHeartbeat": HeartbeatReceived,
}


class Phase(StrEnum):
    """Where the link stands."""

    SEEKING = "seeking"
    REGISTERING = "registering"
    REGISTERED = "registered"
    LEAVING = "leaving"
    LEFT = "left"


@dataclass(frozen=True, kw_only=True)
class Voice:
    """What the worker says of itself: at registration, and with every heartbeat."""

    describe: Callable[[], RegisterWorker]
    beat: Callable[[SessionId], WorkerHeartbeat]


class ControlLink:
    """One conversation with one daemon; time comes in, frames go out through `connect`'s socket."""

    def __init__(
        self,
        connect: Callable[[], CommandSocket],
        *,
        url: str,
        worker_name: str,
        voice: Voice,
        clock: Clock,
        ids: IdMaker,
    ) -> None:
        self._connect = connect
        self._url = url
        self._voice = voice
        self._clock = clock
        self._ids = ids
        self._source = Peer(type="worker", id=worker_name)
        self._limits = WireLimits()
        self.sockets = connect()
        self.phase = Phase.SEEKING
        self.session: WorkerRegistered | None = None
        self.wants_to_write = True
        self._since = clock.monotonic()
        self.away_since: float | None = self._since  # None: it answers, as far as can be seen
        self._reply_seconds = REPLY_SECONDS
        self._due = self._since
        self._heard = self._since
        self._awaited = ""
        self._questions: dict[str, str] = {}  # what was asked in this session, by command id
        self._announced = ""

    def receive(self, now: float) -> list[News]:
        """What the daemon said that others want to know."""
        found: list[News] = []
        for frame in self.sockets.received():
            try:
                command = codec.decode_command(frame, self._limits)
                news = self._understand(command, now)
            except ProtocolError as error:
                log(_log, logging.WARNING, Event.COMMAND_NOT_UNDERSTOOD, problem=str(error))
                continue
            self._heard = now
            if news is not None:
                found.append(news)
        return found

    def turn(self, now: float) -> None:
        """Do what is due: register, beat, or notice silence. Raises RefusedError when it is us."""
        if self.phase is Phase.SEEKING and now >= self._due:
            self._register(now)
        elif self.phase is Phase.REGISTERING and now >= self._due:
            self._reply_seconds = min(self._reply_seconds * 2, REPLY_SECONDS_MAX)
            self.seek(now, reason="registration was not answered")
        elif self.phase is Phase.REGISTERED and self.session is not None:
            if now - self._heard >= self._silence_seconds:
                self.seek(now, reason=f"{SILENT_HEARTBEATS_MAX} heartbeats were not answered")
            elif now >= self._due or self.wants_to_write:
                self._send_beat(now)

    def next_due(self) -> float | None:
        """When `turn` has something to do; a writable socket, which is polled, comes beside it."""
        match self.phase:
            case Phase.SEEKING if self.wants_to_write:
                return None if self._announced == "away" else self._since + PATIENCE_SECONDS
            case Phase.SEEKING | Phase.REGISTERING:
                return self._due
            case Phase.REGISTERED:
                silence = self._heard + self._silence_seconds
                return silence if self.wants_to_write else min(self._due, silence)
            case Phase.LEAVING | Phase.LEFT:
                return None
            case _:
                assert_never(self.phase)

    def seek(self, now: float, *, reason: str, wait_seconds: float = 0.0) -> None:
        """Begin again on a new connection."""
        self._announce("away", reason=reason)
        self.away_since = now if self.away_since is None else self.away_since
        self.sockets.close()
        self.sockets = self._connect()
        self._seek_here(now, wait_seconds)

    def register_again(self, now: float) -> None:
        """Begin another session on this connection."""
        self._seek_here(now, 0.0)

    def beat_soon(self, now: float) -> None:
        """There is news for the daemon that must not wait for the next heartbeat."""
        if self.phase is Phase.REGISTERED:
            self._due = now

    def leave(self, goodbye: WorkerGoodbye) -> bool:
        """Say goodbye; whether it left. `phase` becomes LEFT when it was answered."""
        self.phase = Phase.LEAVING
        self.wants_to_write = False
        return self._send("WorkerGoodbye", goodbye)

    def close(self) -> None:
        self.sockets.close()

    @property
    def _silence_seconds(self) -> float:
        if self.session is None:
            return 0.0
        return self.session.heartbeat_interval_seconds * SILENT_HEARTBEATS_MAX

    def _seek_here(self, now: float, wait_seconds: float) -> None:
        self.phase = Phase.SEEKING
        self.session = None
        self._since = now
        self._due = now + wait_seconds
        self.wants_to_write = wait_seconds == 0

    def _register(self, now: float) -> None:
        self.wants_to_write = not (
            self.sockets.writable and self._send("RegisterWorker", self._voice.describe())
        )
        if not self.wants_to_write:
            self.phase = Phase.REGISTERING
            self._due = now + self._reply_seconds
        elif now - self._since >= PATIENCE_SECONDS:
            self._announce("away", reason="nobody answers there")
            # It may have sent us here and died: then nobody has called it away so far.
            self.away_since = self._since if self.away_since is None else self.away_since

    def _send_beat(self, now: float) -> None:
        if self.session is None:
            return
        sent = self._ask("WorkerHeartbeat", self._voice.beat(self.session.session_id))
        self.wants_to_write = not sent  # the moment it is back it learns that we are here
        if sent:
            self.away_since = None
        elif self.away_since is None:
            self.away_since = now
        self._due = now + self.session.heartbeat_interval_seconds

    def ask_to_start(self, question: ConfirmStart) -> None:
        """May these steps be started? If it cannot be sent, or the answer is lost, ask again."""
        if self.phase is Phase.REGISTERED:
            self._ask("ConfirmStart", question)

    def _ask(self, kind: str, payload: msgspec.Struct) -> bool:
        """Send what has an answer that need not be waited for; whether it left."""
        sent = self._send(kind, payload)
        if sent:
            self._questions[self._awaited] = kind
            if len(self._questions) > QUESTION_IDS_MAX:
                del self._questions[next(iter(self._questions))]
        return sent

    def _send(self, kind: str, payload: msgspec.Struct) -> bool:
        command = Command(
            command_type=kind,
            command_id=self._ids.uuid7(),
            metadata=CommandMetadata(timestamp=self._clock.now().isoformat(), source=self._source),
            payload=Payload(type=kind, data=msgspec.Raw(codec.encode(payload))),
        )
        frame = codec.encode(command)
        if len(frame) > self._limits.command_bytes_max:
            raise RefusedError(
                f"{kind} is {len(frame)} bytes, the daemon reads {self._limits.command_bytes_max};"
                " split the workflows or handlers among several workers"
            )
        self._awaited = command.command_id
        return self.sockets.send(frame)

    def _understand(self, command: Command, now: float) -> News | None:
        if command.correlation_id is not None and command.correlation_id in self._questions:
            return self._on_answer(command, now)
        if command.correlation_id is not None and command.correlation_id == self._awaited:
            return self._on_reply(command, now)
        match command.payload.type:
            case "ResultsRecorded":
                return codec.decode_data(command.payload.data, ResultsRecorded)
            case "CancelSteps":
                return codec.decode_data(command.payload.data, CancelSteps)
            case "Shutdown":
                return self._on_shutdown(codec.decode_data(command.payload.data, Shutdown))
            case "Ping":
                self.beat_soon(now)
            case _:
                kind = printable(command.command_type)[:100]
                log(_log, logging.DEBUG, Event.COMMAND_NOT_EXPECTED, command_type=kind)
        return None

    def _on_shutdown(self, told: Shutdown) -> Shutdown | None:
        """Only who holds this very session may be told to end."""
        if self.session is None or told.session_id != self.session.session_id:
            return None
        reason = printable(told.reason)
        log(_log, logging.WARNING, Event.WORKER_SHUTDOWN_ASKED, reason=reason, **self._fields())
        return told

    def _on_answer(self, command: Command, now: float) -> StartConfirmed | HeartbeatReceived | None:
        asked = self._questions.pop(command.correlation_id or "")
        if command.payload.type != ERROR:
            return codec.decode_data(command.payload.data, ANSWERS[asked])
        error = codec.decode_data(command.payload.data, ErrorData)
        if error.code == UNKNOWN_SESSION and self.phase is Phase.REGISTERED:
            log(_log, logging.INFO, Event.SESSION_UNKNOWN, **self._fields())
            self._seek_here(now, 0.0)
        else:
            told = {"asked": asked} | _error_fields(error)
            log(_log, logging.WARNING, Event.QUESTION_REFUSED, **told)
        return None

    def _on_reply(self, command: Command, now: float) -> WorkerRegistered | None:
        if self.phase is Phase.LEAVING:
            self.phase = Phase.LEFT
            return None
        if self.phase is not Phase.REGISTERING:
            return None
        if command.payload.type == ERROR:
            error = codec.decode_data(command.payload.data, ErrorData)
            self._announce(f"refused {error.code}", **_error_fields(error))
            self._reply_seconds = min(self._reply_seconds * 2, REPLY_SECONDS_MAX)
            self._seek_here(now, self._reply_seconds)
            return None
        self.session = codec.decode_data(command.payload.data, WorkerRegistered)
        self.phase = Phase.REGISTERED
        self.away_since = None
        self.wants_to_write = False
        self._reply_seconds = REPLY_SECONDS
        self._due = now + self.session.heartbeat_interval_seconds
        self._questions.clear()
        self._announce("registered", **self._fields())
        return self.session

    def _fields(self) -> dict[str, Any]:
        if self.session is None:
            return {}
        found = self.session
        return {"session": found.session_id, "core": found.core_id, "credit": found.credit}

    def _announce(self, state: str, **fields: Any) -> None:
        """Log a change of state, once; a new session always counts as one."""
        if state == self._announced and state != "registered":
            return
        self._announced = state
        fields["commands"] = self._url
        if state == "registered":
            log(_log, logging.INFO, Event.WORKER_REGISTERED, **fields)
        elif state == "away":
            log(_log, logging.WARNING, Event.DAEMON_AWAY, **fields)
        else:
            log(_log, logging.ERROR, Event.REGISTRATION_REFUSED, **fields)


def _error_fields(error: ErrorData) -> dict[str, str]:
    return {
        "code": printable(error.code)[:100],
        "problem": printable(error.message),
        "hint": printable(error.hint),
    }
