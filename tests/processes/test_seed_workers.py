"""Workers that know only the data plane complete workflows without any registration."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import zmq

from tasker_zmq.clock import SystemClock
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import IMPATIENT, WORKLOAD, Witness, assert_invariants, results
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

POLL_MS: Final = 20
WORKER: Final = "ruby_worker_1"


def step_template(name: str, handler: str, *parents: str) -> dict[str, Any]:
    return {
        "name": name,
        "handler_class": f"Seeds::{handler}Handler",
        "depends_on_steps": list(parents),
        "default_retryable": True,
        "default_retry_limit": 5,
        "timeout_seconds": 1,  # such workers may miss a batch, or lose a result: it comes again
    }


TEMPLATE: Final = {
    "name": "seeds",
    "namespace_name": "tests",
    "version": "1.0.0",
    "step_templates": [
        step_template("add", "Add"),
        step_template("doubled", "Double", "add"),
        step_template("squared", "Square", "add"),
        step_template("total", "Total", "doubled", "squared"),
    ],
}
EXPECTED: Final = {"add": 5, "doubled": 10, "squared": 25, "total": 35}

Socket = zmq.Socket[bytes]
Send = Callable[[str, dict[str, Any]], None]
Answer = Callable[[dict[str, Any], Send], None]


def timestamp() -> str:
    return SystemClock().now().astimezone(UTC).isoformat()


def work(step: dict[str, Any]) -> int:
    """What the handlers of the template do; the last one fails at its first try."""
    parents = step["previous_results"]
    match step["handler_class"]:
        case "Seeds::AddHandler":
            return int(step["task_context"]["a"] + step["task_context"]["b"])
        case "Seeds::DoubleHandler":
            return int(parents["add"] * 2)
        case "Seeds::SquareHandler":
            return int(parents["add"] ** 2)
        case _ if step["metadata"]["attempt"] == 0:
            raise ConnectionError("not yet")
        case _:
            return int(parents["doubled"] + parents["squared"])


def in_two_messages(batch: dict[str, Any], send: Send) -> None:
    """A partial result for each step as it ends, then the completion of the batch."""
    summaries = []
    for step in batch["steps"]:
        status, output, error = attempted(step)
        send(
            "partial_result",
            {
                "message_type": "partial_result",
                "batch_id": batch["batch_id"],
                "step_id": step["step_id"],
                "status": status,
                "output": output,
                "error": error,
                "worker_id": WORKER,
                "sequence": 1,
                "timestamp": timestamp(),
                "execution_time_ms": 3,
            },
        )
        summaries.append(
            {
                "step_id": step["step_id"],
                "final_status": status,
                "execution_time_ms": 3,
                "worker_id": WORKER,
            }
        )
    completed = sum(each["final_status"] == "completed" for each in summaries)
    send(
        "batch_completion",
        {
            "message_type": "batch_completion",
            "batch_id": batch["batch_id"],
            "protocol_version": "1.0",
            "total_steps": len(summaries),
            "completed_steps": completed,
            "failed_steps": len(summaries) - completed,
            "in_progress_steps": 0,
            "step_summaries": summaries,
            "completed_at": timestamp(),
        },
    )


def in_one_message(batch: dict[str, Any], send: Send) -> None:
    """The older response: everything about a batch at once."""
    found = []
    for step in batch["steps"]:
        status, output, error = attempted(step)
        metadata = {"execution_time_ms": 3, "handler_version": "1.2.3", "retryable": True}
        found.append(
            {
                "step_id": step["step_id"],
                "status": status,
                "output": output,
                "error": error,
                "metadata": metadata,
            }
        )
    response = {"protocol_version": batch["protocol_version"], "results": found}
    send("results", {"batch_id": batch["batch_id"], **response})


def attempted(step: dict[str, Any]) -> tuple[str, int | None, dict[str, Any] | None]:
    """Status, output and error, as a seed worker words them."""
    try:
        return "completed", work(step), None
    except ConnectionError as error:
        return "failed", None, {"message": str(error), "backtrace": ["handler.rb:12:in `process'"]}


@contextmanager
def seed_worker(
    running: RunningDaemon, answer: Answer, *, wish: bytes = b"steps ", binds: str = ""
) -> Iterator[None]:
    """SUB on `steps`, PUB for results, in a thread of its own; nothing else."""
    context: zmq.Context[Socket] = zmq.Context()
    stopping = threading.Event()
    publishing, steps = context.socket(zmq.PUB), context.socket(zmq.SUB)
    if binds:
        publishing.bind(binds)
    else:
        publishing.connect(running.endpoints["results"])
    steps.setsockopt(zmq.SUBSCRIBE, wish)
    steps.connect(running.endpoints["steps"])

    def send(topic: str, message: dict[str, Any]) -> None:
        publishing.send(topic.encode() + b" " + orjson.dumps(message))

    def serve() -> None:
        while not stopping.is_set():
            if steps.poll(POLL_MS):
                topic, _, said = steps.recv().partition(b" ")
                assert topic == b"steps"
                answer(orjson.loads(said), send)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        context.destroy(linger=0)


def run_to_the_end(running: RunningDaemon) -> None:
    with running.client() as client:
        published = client.ask("PublishTemplates", {"templates": [TEMPLATE]})
        assert not published["verdicts"][0]["problems"]
        task_id = client.submit("tests/seeds@1.0.0", {"a": 2, "b": 3})
    task = running.await_task(task_id)
    assert results(task) == EXPECTED
    assert_invariants(running)
    assert running.rows("SELECT 1 FROM tasker_worker_registrations") == []


VARIABLES: Final = {**IMPATIENT, "TASKER_TIMEOUTS_GRACE_SECONDS": "200ms"}


def test_a_seed_worker_completes_a_workflow_by_partial_results_and_completions(
    daemon: StartDaemon,
) -> None:
    running = daemon(variables=VARIABLES, transport="tcp")
    with seed_worker(running, in_two_messages):
        run_to_the_end(running)


def test_a_seed_worker_completes_a_workflow_by_one_response_for_each_batch(
    daemon: StartDaemon,
) -> None:
    running = daemon(variables=VARIABLES)
    with seed_worker(running, in_one_message, wish=b"steps"):
        run_to_the_end(running)


def test_a_seed_worker_that_binds_its_result_socket_is_connected_to(
    daemon: StartDaemon, short_folder: Path
) -> None:
    own = f"ipc://{short_folder}/seed-results"
    running = daemon(variables={**VARIABLES, "TASKER_ENDPOINTS_RESULTS_CONNECT": own})
    with seed_worker(running, in_two_messages, binds=own):
        run_to_the_end(running)


def test_a_subscription_to_the_bare_word_does_not_show_the_steps_of_other_sessions(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=VARIABLES)
    seen: list[dict[str, Any]] = []
    with seed_worker(running, lambda batch, _: seen.append(batch), wish=b"steps"):
        eventually(lambda: "legacy_worker_seen" in running.said, "it is served")
        worker(running, WORKLOAD, variables=witness.variables)
        with running.client() as client:
            task_id = client.submit("tests/chain@1.0.0", {"number": 1})
        running.await_task(task_id)
    assert seen == []
