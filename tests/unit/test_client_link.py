"""The client's link: one thread owns the socket, any thread asks, and silence is asked again."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq import step, workflow
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.client import TaskerClient, WaitTimeoutError, shared
from tasker_zmq.client.link import Link
from tasker_zmq.client.resending import Sending
from tasker_zmq.domain.states import TaskState
from tasker_zmq.errors import NotFoundError, RefusedError, UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    Command,
    ErrorData,
    GetTaskStates,
    HealthCheck,
    Payload,
    Peer,
    StateOfTask,
    TaskStates,
)
from tasker_zmq.protocol.envelope import CoreAddress, RetryPolicy
from tasker_zmq.protocol.tasks import InitializeTask
from tests.unit.shell import OwnDaemon, asked_for

NOWHERE = "tcp://127.0.0.1:1"  # no one listens there
SECONDS_MAX = 30


@step
def pack(order: int) -> int:
    return order


fulfil = workflow("orders/fulfil@1.0.0", pack)


def connect(*endpoints: str, **policy: int) -> Link:
    """Over a link that asks again soon, unless told otherwise."""
    retry_policy = RetryPolicy(**{"backoff_ms": 10, "backoff_ms_max": 1_000, **policy})
    source = Peer(type="client", id="tests")
    return Link(*endpoints, source=source, retry_policy=retry_policy)


def test_many_threads_each_get_the_answer_to_their_own_question() -> None:
    def echo(command: Command) -> object:
        return asked_for(command, dict[str, int])

    answers: dict[int, bytes] = {}
    with OwnDaemon(echo) as daemon:
        asking = connect(daemon.endpoint)

        def ask(number: int) -> None:
            answers[number] = bytes(asking.ask("Echo", {"n": number}).result(SECONDS_MAX))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        asking.close()
    assert answers == {number: b'{"n":%d}' % number for number in range(40)}


def test_an_unanswered_command_is_sent_again_under_the_same_id() -> None:
    answers: list[object] = [{"status": "ok"}, None, None]

    with OwnDaemon(lambda _command: answers.pop()) as daemon:
        asking = connect(daemon.endpoint)
        answer = asking.ask("HealthCheck", HealthCheck(), timeout_seconds=SECONDS_MAX)
        assert bytes(answer.result()) == b'{"status":"ok"}'
        asking.close()
    assert len(daemon.asked) == 3
    assert len({each.command_id for each in daemon.asked}) == 1


def test_a_command_is_sent_as_often_as_its_policy_says_and_says_what_patience_is_left() -> None:
    with OwnDaemon(lambda _command: None) as daemon:
        asking = connect(daemon.endpoint, max_attempts=3, backoff_ms_max=20)
        with pytest.raises(UnreachableError, match="took the command"):
            asking.ask("HealthCheck", HealthCheck(), timeout_seconds=1).result()
        asking.close()
    assert len(daemon.asked) == 3
    left = [each.metadata.timeout_ms or 0 for each in daemon.asked]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    told = codec.decode_if_given(daemon.asked[0].metadata.retry_policy, RetryPolicy)
    assert told == RetryPolicy(max_attempts=3, backoff_ms=10, backoff_ms_max=20)


@given(st.integers(1, 1_000), st.floats(1, 100), st.integers(1, 3_600_000), st.integers(1, 1_000))
def test_waits_never_shrink_and_never_pass_their_limit(
    backoff_ms: int, multiplier: float, limit_ms: int, attempts: int
) -> None:
    policy = RetryPolicy(
        max_attempts=attempts,
        backoff_ms=backoff_ms,
        backoff_multiplier=multiplier,
        backoff_ms_max=limit_ms,
    )
    command = Command(command_type="X", command_id="c", payload=Payload(type="X"))
    sending = Sending(command, policy, until=1.0)
    waits: list[float] = []
    for sent in range(1, attempts + 1):
        sending.sent = sent
        wait = sending.wait()
        assert (wait is None) == (sent == attempts)
        waits += [] if wait is None else [wait]
    assert waits == sorted(waits)
    assert all(0 < each <= limit_ms / 1_000 for each in waits)


def test_a_command_for_another_core_is_sent_there_once_under_the_same_id() -> None:
    def at(core_id: str, endpoint: str) -> ErrorData:
        there = CoreAddress(core_id=core_id, commands=endpoint)
        return ErrorData(code="elsewhere", message="not here", core=there)

    with (
        OwnDaemon(lambda _command: {"core": "b"}) as there,
        OwnDaemon(lambda _command: at("b", there.endpoint)) as here,
    ):
        asking = connect(here.endpoint)
        for _ in range(2):
            answer = asking.ask("HealthCheck", HealthCheck(), core_id="b")
            assert bytes(answer.result(SECONDS_MAX)) == b'{"core":"b"}'
        asking.close()
        with CommandClient(here.endpoint) as client:
            assert bytes(client.ask("HealthCheck", HealthCheck())) == b'{"core":"b"}'
    assert [each.command_id for each in here.asked] == [each.command_id for each in there.asked]
    assert here.asked[0].metadata.target == Peer(type="core", id="b")


def test_who_is_sent_from_core_to_core_is_told_so_after_the_first_time() -> None:
    endpoints: list[str] = []

    def pass_on(_command: Command) -> ErrorData:
        there = CoreAddress(core_id="b", commands=endpoints[0])
        return ErrorData(code="elsewhere", message="not here either", core=there)

    with OwnDaemon(pass_on) as daemon:
        endpoints.append(daemon.endpoint)
        asking = connect(daemon.endpoint)
        with pytest.raises(RefusedError, match="not here either"):
            asking.ask("HealthCheck", HealthCheck()).result(SECONDS_MAX)
        asking.close()
    assert len(daemon.asked) == 2


def test_a_question_finds_the_daemon_that_is_there() -> None:
    with OwnDaemon(lambda _command: {}) as daemon:
        asking = connect(NOWHERE, daemon.endpoint)
        for _ in range(5):
            asking.ask("HealthCheck", HealthCheck(), timeout_seconds=SECONDS_MAX).result()
        asking.close()


def test_nobody_there_and_silence_are_told_apart() -> None:
    asking = connect(NOWHERE)
    with pytest.raises(UnreachableError, match="no daemon listens at"):
        asking.ask("HealthCheck", HealthCheck(), timeout_seconds=0.05).result()
    asking.close()
    with OwnDaemon(lambda _command: None) as daemon:
        asking = connect(daemon.endpoint)
        said = "took the command, but did not answer within 0.5 s"
        with pytest.raises(UnreachableError, match=said):
            asking.ask("HealthCheck", HealthCheck(), timeout_seconds=0.5).result()
        asking.close()


def test_a_refusal_brings_the_daemons_words() -> None:
    codes = {"GetTask": "not_found", "InitializeTask": "invalid"}

    def refuse(command: Command) -> object:
        return ErrorData(code=codes[command.command_type], message="not so", hint="but so")

    with OwnDaemon(refuse) as daemon, TaskerClient(daemon.endpoint) as client:
        with pytest.raises(NotFoundError, match="not so") as found:
            client.get(7)
        with pytest.raises(RefusedError, match="not so"):
            client.submit("orders/fulfil")
    assert found.value.__notes__ == ["but so"]


def test_bytes_that_are_no_reply_answer_nothing() -> None:
    answers: list[object] = [{}, b"{nonsense"]
    with OwnDaemon(lambda _command: answers.pop()) as daemon:
        asking = connect(daemon.endpoint, max_attempts=1)
        with pytest.raises(UnreachableError):
            asking.ask("HealthCheck", HealthCheck(), timeout_seconds=0.5).result()
        assert asking.ask("HealthCheck", HealthCheck()).result(SECONDS_MAX) is not None
        asking.close()


def test_who_waits_when_the_client_is_closed_is_told() -> None:
    asking = connect(NOWHERE)
    answer = asking.ask("HealthCheck", HealthCheck())
    asking.close()
    asking.close()
    with pytest.raises(UnreachableError, match="closed"):
        answer.result(SECONDS_MAX)
    with pytest.raises(UnreachableError, match="closed"):
        asking.ask("HealthCheck", HealthCheck())


@pytest.fixture
def states() -> dict[int, TaskState]:
    return {}


@pytest.fixture
def keeper(states: dict[int, TaskState]) -> Iterator[OwnDaemon]:
    """A daemon that knows these tasks."""

    def answer(command: Command) -> object:
        if command.command_type == "GetTaskStates":
            asked = asked_for(command, GetTaskStates).task_ids
            known = [(each, states[each]) for each in asked if each in states]
            return TaskStates(states=tuple(StateOfTask(task_id=t, state=s) for t, s in known))
        task_id = msgspec.json.decode(command.payload.data)["task_id"]
        if task_id not in states:
            return ErrorData(code="not_found", message=f"no task {task_id}")
        return {"task_id": task_id, "workflow": "tests/one@1.0.0", "state": states[task_id]}

    with OwnDaemon(answer) as daemon:
        yield daemon


def test_a_wait_ends_with_its_task_or_with_its_time(
    keeper: OwnDaemon, states: dict[int, TaskState]
) -> None:
    states.update({1: TaskState.IN_PROGRESS, 2: TaskState.IN_PROGRESS})
    found: list[TaskState] = []
    with TaskerClient(keeper.endpoint) as client:
        with pytest.raises(WaitTimeoutError, match="task 1 has not ended within"):
            client.wait(1, timeout_seconds=0.05)
        waiting = threading.Thread(target=lambda: found.append(client.wait(1).state))
        waiting.start()
        states[2] = TaskState.COMPLETE
        assert client.wait(2).state is TaskState.COMPLETE
        assert not found
        states[1] = TaskState.ERROR
        waiting.join()
        with pytest.raises(NotFoundError, match="no task 3"):
            client.wait(3)
    assert found == [TaskState.ERROR]


def test_all_who_wait_are_asked_for_in_one_question(
    keeper: OwnDaemon, states: dict[int, TaskState]
) -> None:
    states.update(dict.fromkeys(range(1, 21), TaskState.IN_PROGRESS))
    with TaskerClient(keeper.endpoint) as client:
        threads = [threading.Thread(target=client.wait, args=(task_id,)) for task_id in states]
        for each in threads:
            each.start()
        asked_about_all = threading.Event()
        while not asked_about_all.wait(0.001):
            questions = [each for each in keeper.asked if each.command_type == "GetTaskStates"]
            if questions and len(asked_for(questions[-1], GetTaskStates).task_ids) == 20:
                asked_about_all.set()
        states.update(dict.fromkeys(states, TaskState.COMPLETE))
        for each in threads:
            each.join()


def test_a_client_says_when_how_and_what_a_task_is_to_run() -> None:
    at = datetime(2030, 1, 31, 8, tzinfo=UTC)
    reply = {
        "task_id": 7,
        "duplicate": False,
        "named_task": "orders/own@1.0.0",
        "step_count": 1,
        "workflow_graph": {"steps": [], "edges": []},
    }
    with OwnDaemon(lambda _command: reply) as daemon, TaskerClient(daemon.endpoint) as client:
        client.submit("orders/own", scheduled_for=at, priority="high", definition={"steps": []})
        client.submit("orders/own", execution_mode="background")
        with pytest.raises(ValueError, match="no zone"):
            client.submit("orders/own", scheduled_for=at.replace(tzinfo=None))
        with pytest.raises(ValueError, match="immediate, scheduled, background"):
            client.submit("orders/own", execution_mode="soon")
    first, second = (asked_for(each, InitializeTask) for each in daemon.asked)
    assert first.task_request.scheduled_for == "2030-01-31T08:00:00+00:00"
    assert (first.task_request.priority, bytes(first.workflow)) == ("high", b'{"steps":[]}')
    assert (second.task_request.execution_mode, bytes(second.workflow)) == ("background", b"null")


def test_a_workflow_submits_itself_through_the_process_own_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {"task_id": 7, "named_task": "x", "step_count": 1, "duplicate": False}
    made["workflow_graph"] = {"steps": [], "edges": []}
    with OwnDaemon(lambda _command: made) as daemon:
        monkeypatch.setenv("TASKER_COMMANDS", daemon.endpoint)
        monkeypatch.setattr(shared, "_shared", [])
        assert fulfil.submit({"order": 1}, identity="one").task_id == 7
        assert fulfil.submit({"order": 2}).task_id == 7
        (client,) = shared._shared
        client.close()
    first, second = (asked_for(each, InitializeTask).task_request for each in daemon.asked)
    assert (first.namespace, first.name, first.version) == ("orders", "fulfil", "1.0.0")
    assert (first.identity, bytes(first.context)) == ("one", b'{"order":1}')
    assert (second.identity, bytes(second.context)) == (None, b'{"order":2}')
