"""A daemon of the tests' own: real sockets, driven step by step from the test's thread."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import zmq

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId, TaskId
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import (
    CancelSteps,
    Command,
    ConfirmStart,
    DataPlane,
    ErrorData,
    HeartbeatReceived,
    InHand,
    Payload,
    Recorded,
    RegisterWorker,
    ResultsRecorded,
    StartConfirmed,
    TemplateVerdict,
    WorkerGoodbye,
    WorkerHeartbeat,
    WorkerLimits,
    WorkerRegistered,
)
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    BatchError,
    OldResponse,
    PartialResult,
    StepBatch,
    StepMetadata,
    StepRequest,
)

WHOLE_CREDIT = 100
WAIT_MS = 20_000  # a bound, not an expectation: what is awaited comes in milliseconds

Result = PartialResult | BatchCompletion | BatchError
Kind = TypeVar("Kind", bound=msgspec.Struct)


@dataclass(frozen=True)
class Asked:
    """A command and where its answer goes."""

    identity: bytes
    command: Command


class FakeDaemon:
    """ROUTER, XPUB and SUB; heartbeats are answered while something else is awaited."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        *,
        steps: str,
        results: str,
        core_id: str = "core-1",
    ) -> None:
        self.core_id = core_id
        self.cores: tuple[CoreAddress, ...] = ()
        self.router = context.socket(zmq.ROUTER)
        self.steps = context.socket(zmq.XPUB)
        self.results = context.socket(zmq.SUB)
        for socket in (self.router, self.steps, self.results):
            socket.set(zmq.LINGER, 0)
        self.router.bind("tcp://127.0.0.1:*")
        self.steps.bind(steps)
        self.results.bind(results)
        self.url = endpoint_of(self.router)
        self.worker = b""
        self.session_id = SessionId("")
        self.sessions = 0
        self.publications = 0
        self.answers_heartbeats = True
        self.sees_subscriptions = True
        self.heartbeats: list[WorkerHeartbeat] = []

    def close(self) -> None:
        for socket in (self.router, self.steps, self.results):
            socket.close()

    def listen(self) -> None:
        for topic in topics.RESULT_TOPICS:
            self.results.set(zmq.SUBSCRIBE, topics.subscription(topic))

    def stop_listening(self) -> None:
        for topic in topics.RESULT_TOPICS:
            self.results.set(zmq.UNSUBSCRIBE, topics.subscription(topic))

    def asked(self, kind: str) -> Asked:
        """The next command of this kind."""
        while True:
            assert self.router.poll(WAIT_MS), f"no {kind} came"
            identity, frame = self.router.recv_multipart()
            asked = Asked(identity, codec.decode_command(frame, WireLimits()))
            if asked.command.command_type == "WorkerHeartbeat" and kind != "WorkerHeartbeat":
                self._on_heartbeat(asked)
                continue
            assert asked.command.command_type == kind
            return asked

    def reply(self, asked: Asked, answer: msgspec.Struct, command_type: str = "Reply") -> None:
        kind = "Error" if isinstance(answer, ErrorData) else "Success"
        self.tell(asked.identity, command_type, kind, answer, asked.command.command_id)

    def tell(
        self,
        identity: bytes,
        command_type: str,
        kind: str,
        answer: msgspec.Struct,
        correlation_id: str | None = None,
    ) -> None:
        command = Command(
            command_type=command_type,
            command_id="from-the-daemon",
            correlation_id=correlation_id,
            payload=Payload(type=kind, data=msgspec.Raw(codec.encode(answer))),
        )
        written = self.written(json.loads(codec.encode(command)))
        self.router.send_multipart([identity, json.dumps(written).encode()])

    def written(self, command: dict[str, Any]) -> dict[str, Any]:
        """As it goes out; daemons of other releases write otherwise."""
        return command

    def written_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch

    def register(
        self,
        *,
        heartbeat_seconds: float = 60.0,
        result_bytes_max: int = 1 << 20,
        verdicts: Sequence[TemplateVerdict] = (),
        wait_for_subscription: bool = True,
    ) -> RegisterWorker:
        """Let one worker in; what it said of itself."""
        asked = self.asked("RegisterWorker")
        said = codec.decode_data(asked.command.payload.data, RegisterWorker)
        self.worker = asked.identity
        self.sessions += 1
        self.publications = 0
        prefix = "" if self.core_id == "core-1" else f"{self.core_id}-"
        self.session_id = SessionId(f"{prefix}session-{self.sessions}")
        self.reply(
            asked,
            WorkerRegistered(
                worker_database_id=1,
                worker_name=said.worker_name,
                session_id=self.session_id,
                topic=topics.steps_topic(self.session_id).decode(),
                endpoints=DataPlane(
                    steps=endpoint_of(self.steps),
                    results=endpoint_of(self.results),
                ),
                protocol_version="2.0",
                core_id=self.core_id,
                cores=self.cores,
                heartbeat_interval_seconds=heartbeat_seconds,
                next_heartbeat_expected_at="2026-01-01T00:00:00+00:00",
                credit=said.credit or WHOLE_CREDIT,
                whole_credit=WHOLE_CREDIT,
                limits=WorkerLimits(
                    result_bytes_max=result_bytes_max, batch_steps_max=100, nesting_max=64
                ),
                registered_task_count=0,
                templates=tuple(verdicts),
            ),
        )
        if wait_for_subscription:
            self.await_subscription()
        return said

    def await_subscription(self) -> None:
        wanted = b"\x01" + topics.steps_topic(self.session_id)
        while True:
            assert self.steps.poll(WAIT_MS), "the worker did not subscribe"
            if self.steps.recv() == wanted:
                return

    def await_unsubscription(self) -> None:
        assert self.steps.poll(WAIT_MS), "the worker did not unsubscribe"
        assert self.steps.recv() == b"\x00" + topics.steps_topic(self.session_id)

    def send(
        self,
        *steps: StepRequest,
        batch_id: str = "batch-1",
        delivery: int = 1,
        confirm_start: bool = False,
    ) -> None:
        self.publications += 1
        batch = StepBatch(
            batch_id=BatchUuid(batch_id),
            protocol_version="2.0",
            steps=steps,
            session_id=self.session_id,
            publication=self.publications,
            delivery=delivery,
            confirm_start=confirm_start,
        )
        written = self.written_batch(json.loads(codec.encode(batch)))
        self.send_frame(json.dumps(written).encode())

    def send_frame(self, body: bytes) -> None:
        self.steps.send(topics.steps_topic(self.session_id) + body)

    def asked_to_start(self) -> tuple[Asked, ConfirmStart]:
        """The next ConfirmStart, and what it says."""
        asked = self.asked("ConfirmStart")
        return asked, codec.decode_data(asked.command.payload.data, ConfirmStart)

    def confirm(self, asked: Asked, *step_ids: int) -> None:
        """These steps, and no others, may start."""
        said = codec.decode_data(asked.command.payload.data, ConfirmStart)
        answer = StartConfirmed(
            batch_id=said.batch_id, step_ids=tuple(StepId(each) for each in step_ids)
        )
        self.reply(asked, answer, "StartConfirmed")

    def cancel(self, *step_ids: int, batch_id: str = "batch-1", reason: str = "") -> None:
        entry = InHand(
            batch_id=BatchUuid(batch_id), step_ids=tuple(StepId(each) for each in step_ids)
        )
        said = CancelSteps(session_id=self.session_id, steps=(entry,), reason=reason)
        self.tell(self.worker, "CancelSteps", "CancelSteps", said)

    def result(self) -> Result:
        """The next result of any kind."""
        poller = zmq.Poller()
        poller.register(self.results, zmq.POLLIN)
        poller.register(self.router, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(WAIT_MS))
            assert ready, "no result came"
            if self.router in ready:
                self._on_heartbeat(self.asked("WorkerHeartbeat"))
            if self.results in ready:
                found = codec.decode_result([self.results.recv()], WireLimits())
                assert isinstance(found, codec.Decoded), found
                assert not isinstance(found.message, OldResponse)
                return found.message

    def partial(self) -> PartialResult:
        found = self.result()
        assert isinstance(found, PartialResult), found
        return found

    def completion(self) -> BatchCompletion:
        found = self.result()
        assert isinstance(found, BatchCompletion), found
        return found

    def record(self, *results: Result) -> None:
        recorded = tuple(
            Recorded(
                batch_id=each.batch_id,
                step_id=each.step_id if isinstance(each, PartialResult) else None,
                sequence=each.sequence if isinstance(each, PartialResult) else None,
                message_type=type(each).__struct_config__.tag,  # type: ignore[arg-type]
                verdict="applied",
            )
            for each in results
        )
        said = ResultsRecorded(session_id=self.session_id, recorded=recorded)
        self.tell(self.worker, "ResultsRecorded", "ResultsRecorded", said)

    def goodbye(self) -> WorkerGoodbye:
        asked = self.asked("WorkerGoodbye")
        self.reply(asked, HeartbeatReceived(core_id="c", epoch=1, next_heartbeat_expected_at=""))
        return codec.decode_data(asked.command.payload.data, WorkerGoodbye)

    def answer_goodbyes(self) -> None:
        """At a test's end: let the worker go without delay, whatever else it says."""
        if not self.router.closed and self.router.poll(20):
            identity, frame = self.router.recv_multipart()
            command = codec.decode_command(frame, WireLimits())
            if command.command_type == "WorkerGoodbye":
                answer = HeartbeatReceived(core_id="c", epoch=1, next_heartbeat_expected_at="")
                self.reply(Asked(identity, command), answer)

    @property
    def address(self) -> CoreAddress:
        return CoreAddress(core_id=self.core_id, commands=self.url)

    def await_beat(self, wanted: Callable[[WorkerHeartbeat], bool]) -> WorkerHeartbeat:
        """Answer heartbeats until one is as wanted."""
        while True:
            self._on_heartbeat(self.asked("WorkerHeartbeat"))
            if wanted(self.heartbeats[-1]):
                return self.heartbeats[-1]

    def _on_heartbeat(self, asked: Asked) -> None:
        self.heartbeats.append(codec.decode_data(asked.command.payload.data, WorkerHeartbeat))
        if self.answers_heartbeats:
            answer = HeartbeatReceived(
                core_id=self.core_id,
                epoch=1,
                next_heartbeat_expected_at="",
                subscribed=self.sees_subscriptions,
                cores=self.cores,
            )
            self.reply(asked, answer)


def endpoint_of(socket: "zmq.Socket[bytes]") -> str:
    found = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(found, bytes)
    return found.decode().rstrip("\0")


def step_request(
    step_id: int,
    handler_class: str,
    context: Mapping[str, Any] | None = None,
    *,
    previous: Mapping[str, Any] | None = None,
    attempt: int = 0,
    timeout_ms: int = 60_000,
) -> StepRequest:
    """One step of a batch."""
    return StepRequest(
        step_id=StepId(step_id),
        task_id=TaskId(1),
        step_name=f"step_{step_id}",
        handler_class=handler_class,
        handler_config=msgspec.Raw(b"{}"),
        task_context=msgspec.Raw(json.dumps(context or {}).encode()),
        previous_results=msgspec.Raw(json.dumps(previous or {}).encode()),
        depends_on_steps=tuple(previous or ()),
        metadata=StepMetadata(
            attempt=attempt,
            retry_limit=3,
            timeout_ms=timeout_ms,
            created_at="2026-01-01T00:00:00+00:00",
            idempotency_key=f"key-{step_id}",
        ),
    )
