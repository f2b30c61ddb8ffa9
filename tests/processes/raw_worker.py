"""A worker of the tests' own that speaks the protocol frame by frame, and may break its rules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec
import zmq

from tests.processes.running import Client, RunningDaemon

WAIT_MS: Final = 30_000
RESULT_TOPICS: Final = frozenset(
    {b"partial_result ", b"batch_completion ", b"batch_error ", b"results "}
)
Report = Mapping[str, Any]


class RawWorker:
    """Registers and subscribes at once; then says what it is told to, true or not."""

    def __init__(
        self, running: RunningDaemon, handlers: Sequence[str], *, name: str = "raw", credit: int = 4
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.commands: Client = running.client()
        registration = {
            "worker_name": name,
            "handlers": list(handlers),
            "metadata": {"max_concurrent_steps": credit},
            "protocol_versions": ["2.0"],
        }
        self.session: dict[str, Any] = self.commands.ask("RegisterWorker", registration)
        self.results = self._socket(zmq.XPUB, running.endpoints["results"])
        heard: set[bytes] = set()
        while heard != RESULT_TOPICS:
            assert self.results.poll(WAIT_MS), "the daemon did not subscribe"
            heard.add(self.results.recv()[1:])
        self.steps = self._socket(zmq.SUB, running.endpoints["steps"])
        self.steps.setsockopt(zmq.SUBSCRIBE, self.session["topic"].encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.steps.close(linger=0)
        self.results.close(linger=0)
        self._context.term()
        self.commands.close()

    @property
    def session_id(self) -> str:
        return str(self.session["session_id"])

    def batch(self) -> dict[str, Any]:
        """The next batch; the worker beats while it waits for one."""
        for _ in range(WAIT_MS // 100):
            if self.steps.poll(100):
                found: dict[str, Any] = msgspec.json.decode(self.steps.recv().partition(b" ")[2])
                return found
            self.beat()
        raise AssertionError("no batch came")

    def beat(self) -> None:
        """A sign of life; its answer and others are left unread."""
        beat = {"session_id": self.session_id}
        self.commands.send_command("WorkerHeartbeat", beat, command_id="beat")

    def beating(self, fact: Callable[[], bool]) -> Callable[[], bool]:
        """`fact`, with a sign of life each time that it is asked."""

        def asked() -> bool:
            self.beat()
            return fact()

        return asked

    def report(self, topic: str, report: Report) -> None:
        """One result, with this session's id unless the report names another."""
        said = {"session_id": self.session_id, **report}
        self.results.send(topic.encode() + b" " + msgspec.json.encode(said))

    def complete(self, batch: Mapping[str, Any], **more: Any) -> None:
        """A partial result for each step of the batch."""
        for sequence, step in enumerate(batch["steps"], start=1):
            told = {"batch_id": batch["batch_id"], "step_id": step["step_id"]}
            told |= {"status": "completed", "output": 1, "sequence": sequence, **more}
            self.report("partial_result", told)

    def close_batch(self, batch: Mapping[str, Any], step_ids: Sequence[int]) -> None:
        """A completion that claims these steps."""
        self.report(
            "batch_completion",
            {
                "batch_id": batch["batch_id"],
                "protocol_version": "2.0",
                "total_steps": len(step_ids),
                "completed_steps": len(step_ids),
                "failed_steps": 0,
                "step_summaries": [
                    {"step_id": each, "final_status": "completed"} for each in step_ids
                ],
            },
        )

    def _socket(self, kind: int, endpoint: str) -> "zmq.Socket[bytes]":
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        if kind == zmq.XPUB:
            made.setsockopt(zmq.IMMEDIATE, 1)
            made.setsockopt(zmq.XPUB_NODROP, 1)  # a full line is waited for
            made.setsockopt(zmq.SNDTIMEO, WAIT_MS)
        else:
            made.setsockopt(zmq.RCVHWM, 0)
        made.connect(endpoint)
        return made
