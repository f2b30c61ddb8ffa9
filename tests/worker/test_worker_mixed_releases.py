"""A worker with daemons of a later release, and of an earlier one: it works with each of them.

A later daemon has fields everywhere that this release does not know, and tells what it cannot
understand; an earlier one has not the fields that a message may lack.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import zmq

from tasker_zmq.protocol.commands import ErrorData, SupportedTask, TemplateVerdict
from tests.worker.conftest import RunningWorker
from tests.worker.fake_daemon import FakeDaemon, step_request

Start = Callable[..., RunningWorker]

UNKNOWN: Final = {"since_3_0": {"nested": [{"deep": 1.5}, None, True]}}
# What docs/PROTOCOL.md lets a daemon leave out, and what this release added to its answers.
MAY_LACK: Final = frozenset({"subscribed", "assigned_task_coverage", "templates", "reason", "hint"})
MAY_LACK_IN_A_BATCH: Final = frozenset(
    {"core_id", "session_id", "publication", "delivery", "confirm_start"}
)
ENVELOPE_MAY_LACK: Final = frozenset({"metadata", "worker_routing", "audit_context"})
GIVEN_BY_USERS: Final = frozenset({"handler_config", "task_context", "previous_results"})


def grown(value: Any) -> Any:
    """The same with a field in every object of the protocol that no release so far knows."""
    if isinstance(value, list):
        return [grown(each) for each in value]
    if isinstance(value, dict):
        kept = {
            name: each if name in GIVEN_BY_USERS else grown(each) for name, each in value.items()
        }
        return {**kept, **UNKNOWN}
    return value


def without(lacking: frozenset[str], value: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name not in lacking}


def bare_command(command: dict[str, Any]) -> dict[str, Any]:
    payload = command["payload"]
    bare = {**payload, "data": without(MAY_LACK, payload["data"])}
    return {**without(ENVELOPE_MAY_LACK, command), "payload": bare}


class LaterDaemon(FakeDaemon):
    """Speaks as a release after this one."""

    def written(self, command: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = grown(command)
        return changed

    def written_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = grown(batch)
        return changed


class EarlierDaemon(FakeDaemon):
    """Speaks as a release before this one."""

    def written(self, command: dict[str, Any]) -> dict[str, Any]:
        return bare_command(command)

    def written_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        return without(MAY_LACK_IN_A_BATCH, batch)


@pytest.fixture(params=[LaterDaemon, EarlierDaemon])
def daemon(
    request: pytest.FixtureRequest, zmq_context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> Iterator[FakeDaemon]:
    kind: type[FakeDaemon] = request.param
    found = kind(zmq_context, steps=f"ipc://{tmp_path}/s", results=f"ipc://{tmp_path}/r")
    found.listen()
    yield found
    found.close()


def test_steps_are_run_reported_and_recorded(daemon: FakeDaemon, start_worker: Start) -> None:
    running = start_worker(echo=lambda text: text)
    daemon.register(heartbeat_seconds=0.1)
    for _ in range(4):  # more answers without `subscribed` than it would take `false` for
        daemon._on_heartbeat(daemon.asked("WorkerHeartbeat"))
    assert daemon.sessions == 1
    daemon.send(step_request(1, "echo", {"text": "a"}), step_request(2, "echo", {"text": "b"}))
    found = [daemon.partial(), daemon.partial()]
    assert {each.step_id: bytes(each.output) for each in found} == {1: b'"a"', 2: b'"b"'}
    completion = daemon.completion()
    assert (completion.total_steps, completion.completed_steps) == (2, 2)
    daemon.record(*found, completion)
    while len(running.parts.outbox):
        daemon._on_heartbeat(daemon.asked("WorkerHeartbeat"))
    running.stop()
    assert daemon.goodbye().unfinished == ()
    assert running.wait() == 0


def test_a_step_is_cancelled(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(echo=lambda text: text)
    daemon.register()
    daemon.send(step_request(1, "echo", {"text": "a"}), confirm_start=True)
    if isinstance(daemon, EarlierDaemon):  # it knows no such question
        daemon.record(daemon.partial(), daemon.completion())
        return
    asked, question = daemon.asked_to_start()
    daemon.confirm(asked, *question.step_ids)
    daemon.record(daemon.partial(), daemon.completion())
    daemon.send(step_request(2, "echo", {"text": "b"}), batch_id="batch-2", confirm_start=True)
    daemon.asked_to_start()
    daemon.cancel(2, batch_id="batch-2", reason="nobody wants it")
    result = daemon.partial()
    assert result.error is not None
    assert (result.status, result.error.error_type) == ("failed", "Cancelled")
    daemon.record(result, daemon.completion())


def test_what_it_does_not_know_is_passed_over(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(echo=lambda text: text)
    daemon.register()
    said = SupportedTask(namespace="any", name="struct", version="1")
    daemon.tell(daemon.worker, "TellTheWeather", "TellTheWeather", said)
    daemon.tell(daemon.worker, "TellTheWeather", "Success", said, "an answer to nobody")
    daemon.send(step_request(1, "echo", {"text": "a"}))
    daemon.record(daemon.partial(), daemon.completion())
    assert daemon.sessions == 1


def test_an_unknown_session_leads_to_another(daemon: FakeDaemon, start_worker: Start) -> None:
    start_worker(echo=lambda text: text)
    daemon.register(heartbeat_seconds=0.1)
    asked = daemon.asked("WorkerHeartbeat")
    daemon.reply(asked, ErrorData(code="unknown_session", message="who are you?", hint="again"))
    daemon.register()
    daemon.send(step_request(1, "echo", {"text": "a"}))
    daemon.record(daemon.partial(), daemon.completion())


def test_its_workflows_are_judged(daemon: FakeDaemon, start_worker: Start) -> None:
    running = start_worker(echo=lambda text: text)
    verdict = TemplateVerdict(full_name="a/b@1", verdict="refused", problems=("no steps",))
    daemon.register(verdicts=[verdict])
    if isinstance(daemon, EarlierDaemon):  # it judges none, and work goes on
        daemon.send(step_request(1, "echo", {"text": "a"}))
        daemon.record(daemon.partial(), daemon.completion())
        return
    daemon.goodbye()
    assert running.wait() == 2


def test_a_daemon_that_shares_no_version_is_asked_again_and_its_words_are_logged(
    daemon: FakeDaemon,
    start_worker: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasker_zmq.worker.control.REPLY_SECONDS", 0.3)
    start_worker(echo=lambda text: text)
    told = "the worker speaks 2.0; this daemon speaks 4.0, 3.0"
    refusal = ErrorData(code="unsupported_protocol", message=told)
    daemon.reply(daemon.asked("RegisterWorker"), refusal)
    assert daemon.register().protocol_versions == ("2.0",)
    assert "registration_refused_still_trying" in caplog.text
    assert told in str([vars(each) for each in caplog.records])
