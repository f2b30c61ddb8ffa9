"""A daemon with workers of a later release, and of an earlier one: work is done all the same.

There is one release so far. What others may say is what docs/PROTOCOL.md lets them: a later one
speaks other versions too and has fields that this one does not know; an earlier one has only the
fields that must be there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, Final

import msgspec
import pytest
import zmq

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.raw_worker import RESULT_TOPICS, WAIT_MS
from tests.processes.rig import IMPATIENT, assert_it_held, results, verdicts
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

POLL_MS: Final = 50
HANDLERS: Final = ["mixed.count", "mixed.once"]
TEMPLATE: Final = {
    "name": "mixed",
    "namespace_name": "tests",
    "version": "1.0.0",
    "step_templates": [
        {"name": "first", "handler_class": "mixed.count", "default_retry_limit": 3},
        {
            "name": "second",
            "handler_class": "mixed.once",
            "depends_on_step": "first",
            "default_retryable": False,
        },
    ],
}
OF_THIS_RELEASE: Final = """
from tasker_zmq import step

@step(handler="mixed.once")
def once(first):
    return first + 1
"""
COMPLETED_AT: Final = "2026-01-01T00:00:00+00:00"
UNKNOWN: Final = {"since_3_0": {"nested": [{"deep": 1.5}, None, True]}}

# A worker that is written by hand beats when it has time for it.
PATIENCE: Final = {
    "TASKER_HEARTBEAT_SUSPECT_SECONDS": "20s",
    "TASKER_HEARTBEAT_DEAD_SECONDS": "40s",
}

Message = dict[str, Any]
Change = Callable[[Any], Any]


def grown(value: Any) -> Any:
    """The same with a field in every object that no release so far knows."""
    if isinstance(value, list):
        return [grown(each) for each in value]
    if isinstance(value, dict):
        return {**{name: grown(each) for name, each in value.items()}, **UNKNOWN}
    return value


def as_it_is(value: Any) -> Any:
    return value


class HandWrittenWorker:
    """Says what a test tells it, each message changed by `change` before it leaves."""

    def __init__(self, running: RunningDaemon, change: Change, *, stack: ExitStack) -> None:
        self._change = change
        self._commands = stack.enter_context(running.client())
        self._numbers = count(1)
        self.recorded: list[Message] = []
        self.session_id = ""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.term)
        self._results, self._steps = context.socket(zmq.XPUB), context.socket(zmq.SUB)
        for socket in (self._results, self._steps):
            socket.set(zmq.LINGER, 0)
            stack.callback(socket.close)

    def ask(self, kind: str, told: Message, **envelope: Any) -> Message:
        """The answer's payload; what the daemon says meanwhile is noted."""
        command_id = f"{kind}-{next(self._numbers)}"
        said = {"command_type": kind, "command_id": command_id, **envelope}
        said["payload"] = {"type": kind, "data": told}
        self._commands.send(msgspec.json.encode(self._change(said)))
        while True:
            reply = self._commands.receive()
            data = msgspec.json.decode(reply.payload.data)
            if reply.correlation_id == command_id:
                return {"type": reply.payload.type, "data": data}
            if reply.command_type == "ResultsRecorded":
                self.recorded += data["recorded"]

    def register(self, told: Message, **envelope: Any) -> Message:
        """Begin a session and connect to where the answer says."""
        answer = self.ask("RegisterWorker", told, **envelope)
        assert answer["type"] == "Success", answer
        session: Message = answer["data"]
        self.session_id = session["session_id"]
        self._results.connect(session["endpoints"]["results"])
        heard: set[bytes] = set()
        while heard != RESULT_TOPICS:
            assert self._results.poll(WAIT_MS), "the daemon did not subscribe"
            heard.add(self._results.recv()[1:])
        self._steps.set(zmq.SUBSCRIBE, session["topic"].encode())
        self._steps.connect(session["endpoints"]["steps"])
        return session

    def batch(self, beat: Message) -> Message:
        """The next batch; the worker beats while it waits for one."""
        for _ in range(WAIT_MS // POLL_MS):
            if self._steps.poll(POLL_MS):
                found: Message = msgspec.json.decode(self._steps.recv().partition(b" ")[2])
                return found
            answer = self.ask("WorkerHeartbeat", {"session_id": self.session_id, **beat})
            assert answer["type"] == "Success", answer
        raise AssertionError("no batch came")

    def report(self, topic: str, told: Message) -> None:
        said = self._change({"session_id": self.session_id, **told})
        self._results.send(topic.encode() + b" " + msgspec.json.encode(said))

    def await_recorded(self, wanted: Sequence[Message]) -> None:
        """Wait until all of these messages are acknowledged."""

        def are_there() -> bool:
            self.ask("WorkerHeartbeat", {"session_id": self.session_id})
            names = ("message_type", "batch_id", "step_id", "sequence")
            told = [{name: each[name] for name in names} for each in self.recorded]
            return all(each in told for each in wanted)

        eventually(are_there, f"{wanted} are recorded")


@pytest.fixture
def running(daemon: StartDaemon) -> RunningDaemon:
    started = daemon(variables={**IMPATIENT, **PATIENCE})
    with started.client() as client:
        client.ask("PublishTemplates", {"templates": [TEMPLATE]})
    return started


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def submitted(running: RunningDaemon) -> int:
    with running.client() as client:
        return client.submit("tests/mixed@1.0.0", {})


def recorded(batch: Mapping[str, Any], kind: str, sequence: int | None = None) -> Message:
    """How ResultsRecorded names a message about a batch of one step."""
    step_id = batch["steps"][0]["step_id"] if kind == "partial_result" else None
    named = {"batch_id": batch["batch_id"], "step_id": step_id, "sequence": sequence}
    return {"message_type": kind, **named}


def assert_all_was_understood(running: RunningDaemon, task_id: int) -> None:
    """The task ended well, each message moved something, and both accounts of it agree."""
    assert results(running.await_task(task_id)) == {"first": 1, "second": 2}

    def are_consistent() -> bool:
        found = running.rows("SELECT reconciliation_status FROM tasker_step_execution_batches")
        return {each["reconciliation_status"] for each in found} == {"consistent"}

    eventually(are_consistent, "all batches are reconciled")
    assert set(verdicts(running)) <= {"applied", "noted"}
    assert_it_held(running)


def work_as_a_later_release(worker: HandWrittenWorker, output: int, *, fails: bool) -> Message:
    """Take a batch of one step and say everything about it that can be said."""
    batch = worker.batch({"current_load": 0, "in_hand": [], "system_stats": {"threads": 4}})
    whose = {"batch_id": batch["batch_id"], "worker_id": "later"}
    step_id = batch["steps"][0]["step_id"]
    if batch["confirm_start"]:
        question = {"session_id": worker.session_id, "batch_id": batch["batch_id"]}
        may = worker.ask("ConfirmStart", {**question, "step_ids": [step_id]})
        assert may["data"]["step_ids"] == [step_id]
    in_hand = [{"batch_id": batch["batch_id"], "step_ids": [step_id]}]
    worker.ask("WorkerHeartbeat", {"session_id": worker.session_id, "in_hand": in_hand})
    step = {**whose, "step_id": step_id, "message_type": "partial_result"}
    begun = {"status": "in_progress", "sequence": 1, "progress": {"percent": 50}}
    worker.report("partial_result", {**step, **begun})
    status = "failed" if fails else "completed"
    error = {"message": "not yet", "error_type": "Soon", "retryable": True, "backtrace": ["a:1"]}
    ended = {"error": error} if fails else {"output": output}
    worker.report("partial_result", {**step, "status": status, "sequence": 2, **ended})
    counts = {"completed_steps": int(not fails), "failed_steps": int(fails)}
    summary = {"step_id": step_id, "final_status": status, "execution_time_ms": 1.5}
    account = {"protocol_version": "2.0", "total_steps": 1, "completed_at": COMPLETED_AT}
    account |= {"step_summaries": [summary], "worker_performance_stats": {"mood": 1}, **counts}
    worker.report("batch_completion", {**whose, "message_type": "batch_completion", **account})
    return batch


def test_a_worker_of_a_later_release_is_understood_as_far_as_this_one_goes(
    running: RunningDaemon, stack: ExitStack
) -> None:
    worker = HandWrittenWorker(running, grown, stack=stack)
    session = worker.register(
        {
            "worker_name": "later",
            "handlers": HANDLERS,
            "supported_tasks": [{"namespace": "tests", "name": "mixed", "version": "1.0.0"}],
            "metadata": {"max_concurrent_steps": 2, "custom_capabilities": {"tea": True}},
            "protocol_versions": ["3.0", "2.0"],
            "in_hand": [],
            "confirms_start": True,
        },
        metadata={"timestamp": COMPLETED_AT, "source": {"type": "worker", "id": "later"}},
    )
    assert session["protocol_version"] == "2.0"
    assert worker.ask("TellTheWeather", {})["data"]["code"] == "unknown_command"
    task_id = submitted(running)
    batches = [
        work_as_a_later_release(worker, 1, fails=True),
        work_as_a_later_release(worker, 1, fails=False),
        work_as_a_later_release(worker, 2, fails=False),
    ]
    assert [each["confirm_start"] for each in batches] == [False, False, True]
    assert_all_was_understood(running, task_id)
    kinds = (("partial_result", 2), ("batch_completion", None))
    worker.await_recorded([recorded(batch, *kind) for batch in batches for kind in kinds])
    gone = {"session_id": worker.session_id, "reason": "upgrade", "unfinished": []}
    assert worker.ask("WorkerGoodbye", gone)["type"] == "Success"
    running.await_sessions(0)


@pytest.mark.parametrize(
    ("versions", "agreed"),
    [({}, "2.0"), ({"protocol_versions": ["1.0"]}, "1.0")],
    ids=["says no version", "speaks 1.0"],
)
def test_a_worker_of_an_earlier_release_needs_to_say_only_what_must_be_there(
    running: RunningDaemon, stack: ExitStack, versions: Message, agreed: str
) -> None:
    worker = HandWrittenWorker(running, as_it_is, stack=stack)
    session = worker.register({"worker_name": "earlier", "handlers": HANDLERS, **versions})
    assert session["protocol_version"] == agreed
    task_id = submitted(running)
    batches = []
    for output in (1, 2):
        batch = worker.batch({})
        batches.append(batch)
        step = {"batch_id": batch["batch_id"], "step_id": batch["steps"][0]["step_id"]}
        worker.report("partial_result", {**step, "status": "completed", "output": output})
        counts = {"total_steps": 1, "completed_steps": 1, "failed_steps": 0}
        worker.report("batch_completion", {"batch_id": batch["batch_id"], **counts})
    assert not any(each["confirm_start"] for each in batches)  # it would never ask
    assert_all_was_understood(running, task_id)
    kinds = ("partial_result", "batch_completion")
    worker.await_recorded([recorded(batch, kind) for batch in batches for kind in kinds])
    assert worker.ask("WorkerGoodbye", {"session_id": worker.session_id})["type"] == "Success"
    running.await_sessions(0)


def test_workers_of_a_later_release_and_of_this_share_the_work_of_one_task(
    running: RunningDaemon, stack: ExitStack, worker: StartWorker
) -> None:
    """As while upgrading: who runs a step, and who the one after it, is nobody's concern."""
    worker(running, OF_THIS_RELEASE, name="this")
    later = HandWrittenWorker(running, grown, stack=stack)
    told = {"handlers": ["mixed.count"], "protocol_versions": ["3.0", "2.0"]}
    later.register({"worker_name": "later", **told})
    task_id = submitted(running)
    work_as_a_later_release(later, 1, fails=False)
    assert_all_was_understood(running, task_id)


def test_a_worker_with_which_no_version_is_shared_is_told_what_each_side_speaks(
    running: RunningDaemon, stack: ExitStack
) -> None:
    worker = HandWrittenWorker(running, grown, stack=stack)
    told = {"worker_name": "later", "handlers": HANDLERS, "protocol_versions": ["4.0", "3.0"]}
    answer = worker.ask("RegisterWorker", told)
    assert (answer["type"], answer["data"]["code"]) == ("Error", "unsupported_protocol")
    wanted = "the worker speaks 4.0, 3.0; this daemon speaks 2.0, 1.0"
    assert answer["data"]["message"] == wanted
    assert answer["data"]["hint"]
    running.await_sessions(0)
