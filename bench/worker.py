"""What a step costs a worker process, and how long it takes there when it is alone.

A real worker beside a bare core of this program's own, without a database: it publishes no-op
steps of some 650 bytes, and answers results in groups, as a daemon's ticks do. Processor times are
the kernel's own count of the worker's threads, so they hold beside other work.
`python -m bench.worker`, `-o json` for programs.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import orjson
import zmq

from tasker_zmq.cli.benchmark.costs import PROC
from tasker_zmq.cli.benchmark.workloads import LOAD
from tasker_zmq.cli.demonstration.premises import endpoints_in, without_settings
from tasker_zmq.cli.demonstration.programs import end, start
from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId, TaskId
from tasker_zmq.protocol import codec, topics
from tasker_zmq.protocol.commands import (
    Command,
    DataPlane,
    HeartbeatReceived,
    Payload,
    Recorded,
    RegisterWorker,
    ResultsRecorded,
    WorkerLimits,
    WorkerRegistered,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.messages import (
    BatchCompletion,
    PartialResult,
    StepBatch,
    StepMetadata,
    StepRequest,
)
from tasker_zmq.settings.environment import process_variables
from tasker_zmq.worker.outbox import key_of

SESSION: Final = SessionId("01990000-0000-7000-8000-000000000001")
LIMITS: Final = WireLimits()
WAIT_MS: Final = 30_000
HEARTBEAT_SECONDS: Final = 2.0
CONTEXT: Final = orjson.dumps({"order": {"id": 1, "note": "x" * 130}})
PARENT: Final = orjson.dumps({"reserve": {"order_id": 1, "accepted": True, "pad": "x" * 110}})


class BareCore:
    """The sockets of a core, one worker's session, and what is under way."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", endpoints: dict[str, str]
    ) -> None:
        self.router = context.socket(zmq.ROUTER)
        self.steps = context.socket(zmq.XPUB)
        self.results = context.socket(zmq.SUB)
        self._endpoints = endpoints
        self._poller = zmq.Poller()
        for socket, purpose in (
            (self.router, "commands"),
            (self.steps, "steps"),
            (self.results, "results"),
        ):
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, 0)
            socket.bind(endpoints[purpose])
            self._poller.register(socket, zmq.POLLIN)
        for topic in topics.RESULT_TOPICS:
            self.results.set(zmq.SUBSCRIBE, topics.subscription(topic))
        self._worker = b""
        self._handler = ""
        self._subscribed = False
        self._batches = 0
        self.completed_steps = 0
        self._unrecorded: list[Recorded] = []

    def welcome(self) -> None:
        """Let the worker in, and wait until it is ready for work."""
        while not (self._subscribed and self._worker):
            self.receive(WAIT_MS)

    def publish(self, steps: int) -> None:
        """One batch."""
        self._batches += 1
        first = self._batches * 1_000
        batch = StepBatch(
            batch_id=BatchUuid(f"01990000-0000-7000-9000-{self._batches:012x}"),
            protocol_version="2.0",
            steps=tuple(self._request(first + number) for number in range(steps)),
            core_id="bench",
            session_id=SESSION,
            publication=self._batches,
        )
        self.steps.send(topics.steps_topic(SESSION) + codec.encode(batch))

    def _request(self, step_id: int) -> StepRequest:
        return StepRequest(
            step_id=StepId(step_id),
            task_id=TaskId(step_id),
            step_name="charge",
            handler_class=self._handler,
            handler_config=msgspec.Raw(b"{}"),
            task_context=msgspec.Raw(CONTEXT),
            previous_results=msgspec.Raw(PARENT),
            depends_on_steps=("reserve",),
            metadata=StepMetadata(
                attempt=0,
                retry_limit=3,
                timeout_ms=300_000,
                created_at="2026-11-22T00:00:00.000000+00:00",
                idempotency_key=f"{step_id}:charge",
            ),
        )

    def receive(self, wait_ms: int) -> int:
        """Take what has come; how many batches were completed."""
        ready = dict(self._poller.poll(wait_ms))
        if self.router in ready:
            self._on_command()
        if self.steps in ready:
            self._subscribed = self.steps.recv()[:1] == b"\x01" or self._subscribed
        return self._take_results() if self.results in ready else 0

    def _take_results(self) -> int:
        completions = 0
        while True:
            try:
                frame = self.results.recv(zmq.DONTWAIT)
            except zmq.Again:
                return completions
            found = codec.decode_result([frame], LIMITS)
            if not isinstance(found, codec.Decoded):
                raise click.ClickException(f"the worker said {frame!r}")
            said = found.message
            if isinstance(said, BatchCompletion):
                completions += 1
                self.completed_steps += said.total_steps
            elif not isinstance(said, PartialResult) or said.status != "completed":
                raise click.ClickException(f"a step failed: {said}")
            key = key_of(said)
            self._unrecorded.append(
                Recorded(
                    batch_id=key.batch_id,
                    step_id=key.step_id,
                    sequence=key.sequence,
                    message_type=key.message_type,
                    verdict="applied",
                )
            )

    def record(self) -> None:
        """Acknowledge what has come since the last time."""
        if self._unrecorded:
            told = ResultsRecorded(
                session_id=SESSION,
                recorded=tuple(self._unrecorded),
            )
            self._unrecorded.clear()
            self._say("ResultsRecorded", told)

    def _say(self, kind: str, data: msgspec.Struct, *, answers: str | None = None) -> None:
        command = Command(
            command_type=kind,
            command_id=f"bench-{kind}",
            correlation_id=answers,
            payload=Payload(type=kind if answers is None else "Success", data=codec.raw(data)),
        )
        self.router.send_multipart([self._worker, codec.encode(command)])

    def _on_command(self) -> None:
        self._worker, frame = self.router.recv_multipart()
        command = codec.decode_command(frame, LIMITS)
        if command.command_type == "RegisterWorker":
            said = codec.decode_data(command.payload.data, RegisterWorker)
            self._handler = next(each for each in said.handlers if each.endswith("charge"))
            self._say("WorkerRegistered", self._session(said), answers=command.command_id)
            return
        answer = HeartbeatReceived(core_id="bench", epoch=1, next_heartbeat_expected_at="")
        self._say("HeartbeatReceived", answer, answers=command.command_id)

    def _session(self, said: RegisterWorker) -> WorkerRegistered:
        return WorkerRegistered(
            worker_database_id=1,
            worker_name=said.worker_name,
            session_id=SESSION,
            topic=topics.steps_topic(SESSION).decode(),
            endpoints=DataPlane(steps=self._endpoints["steps"], results=self._endpoints["results"]),
            protocol_version="2.0",
            core_id="bench",
            heartbeat_interval_seconds=HEARTBEAT_SECONDS,
            next_heartbeat_expected_at="",
            credit=1_000,
            limits=WorkerLimits(result_bytes_max=1 << 20, batch_steps_max=1_000, nesting_max=64),
            registered_task_count=1,
        )


def processor_seconds(pid: int) -> float:
    """Of all threads of the process that live, to the nanosecond."""
    tasks = (PROC / str(pid) / "task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in tasks) / 1e9


def throughput(
    core: BareCore, batch: int, *, under_way: int, tick_ms: float, seconds: float
) -> int:
    """Keep so many steps under way; how many were done."""
    before = core.completed_steps
    for _ in range(under_way // batch):
        core.publish(batch)
    give_up_at = time.perf_counter() + seconds
    open_batches, ended, tick_at = under_way // batch, 0, 0.0
    while open_batches:
        wait = max(0, round((tick_at - time.perf_counter()) * 1_000)) if ended else WAIT_MS
        ended += core.receive(wait)
        now = time.perf_counter()
        if now < tick_at:
            continue
        tick_at = now + tick_ms / 1_000
        core.record()
        open_batches -= ended
        while ended and now < give_up_at:
            core.publish(batch)
            open_batches, ended = open_batches + 1, ended - 1
        ended = 0
    core.record()
    return core.completed_steps - before


def round_trips(core: BareCore, times: int) -> list[float]:
    """Milliseconds from a batch of one step to its completion, one after the other."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        core.publish(1)
        while not core.receive(WAIT_MS):
            pass
        found.append((time.perf_counter() - began) * 1e3)
        core.record()
    return found


@contextmanager
def worker(*, concurrency: int, executor: str) -> Iterator[tuple[BareCore, int]]:
    """A bare core with a worker process that is ready for work, and that process's id."""
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as place:
        folder = Path(place)
        endpoints = endpoints_in(folder)
        arguments = [LOAD, "--name", "bench", "--commands", endpoints["commands"]]
        arguments += ["--concurrency", str(concurrency), "--executor", executor]
        variables = without_settings(process_variables())
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        core = BareCore(context, endpoints)
        program = start("w", "worker", arguments=arguments, variables=variables, folder=folder)
        try:
            core.welcome()
            yield core, program.running.pid
        finally:
            program.running.kill()
            end([program])
            context.destroy(linger=0)


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="of each measurement")
@click.option("--rounds", default=3, show_default=True)
@click.option("--under-way", default=64, show_default=True)
@click.option("--concurrency", default=32, show_default=True)
@click.option("--executor", default="thread", show_default=True)
@click.option("--tick-ms", default=4.0, show_default=True, help="between two groups of answers")
@click.option("--trips", default=1_000, show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(**options: Any) -> None:
    """Measure what a step costs a worker."""
    sizes = (1, 8, 32)
    shape = {"under_way": options["under_way"], "tick_ms": options["tick_ms"]}
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    with worker(concurrency=options["concurrency"], executor=options["executor"]) as (core, pid):
        throughput(core, 8, seconds=1.0, **shape)
        for _ in range(options["rounds"]):
            for size in sizes:
                began, before = time.perf_counter(), processor_seconds(pid)
                steps = throughput(core, size, seconds=options["seconds"], **shape)
                costs[size].append((processor_seconds(pid) - before) / steps * 1e6)
                rates[size].append(steps / (time.perf_counter() - began))
        before = processor_seconds(pid)
        trips = round_trips(core, options["trips"])
        alone = (processor_seconds(pid) - before) / len(trips) * 1e6
    found: dict[str, Any] = {
        "microseconds_per_step": {size: round(min(each), 1) for size, each in costs.items()},
        "steps_per_second": {size: round(max(each)) for size, each in rates.items()},
        "round_trip_ms_p50": round(statistics.median(trips), 3),
        "round_trip_microseconds": round(alone, 1),
    }
    if options["output"] == "json":
        click.echo(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS).decode())
        return
    click.echo("of the worker's processor time for a step, in batches of (least of the rounds):")
    for size in sizes:
        cost, rate = found["microseconds_per_step"][size], found["steps_per_second"][size]
        click.echo(f"  {size:>4} {cost:>8} us   {rate:>7} steps/s")
    click.echo("one step at a time:")
    click.echo(f"  p50 {found['round_trip_ms_p50']} ms, {alone:.0f} us of the processor")


if __name__ == "__main__":
    main()
