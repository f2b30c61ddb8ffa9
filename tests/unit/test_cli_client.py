"""Commands over a real DEALER socket: answers, refusals, silence, strangers."""

import msgspec
import pytest
import zmq

from tasker_zmq.cli.client import CommandClient, ask_health
from tasker_zmq.errors import NotFoundError, ProtocolError, RefusedError, UnreachableError
from tasker_zmq.protocol.commands import Command, ErrorData, HealthCheck
from tests.unit.shell import OwnDaemon, tasker

NOWHERE = "tcp://127.0.0.1:1"  # no one listens there


def ask(endpoint: str, *, timeout_seconds: float = 20) -> bytes:
    with CommandClient(endpoint) as client:
        return bytes(client.ask("HealthCheck", HealthCheck(), timeout_seconds=timeout_seconds))


def test_an_answer_comes_back_as_its_data() -> None:
    with OwnDaemon(lambda _command: {"status": "ok"}) as daemon:
        assert ask(daemon.endpoint) == b'{"status":"ok"}'
    (command,) = daemon.asked
    assert (command.command_type, command.payload.type) == ("HealthCheck", "HealthCheck")
    assert command.metadata.timeout_ms == 20_000
    assert command.metadata.source is not None
    assert command.metadata.source.type == "cli"


def test_each_command_has_an_id_of_its_own() -> None:
    with OwnDaemon(lambda _command: {}) as daemon, CommandClient(daemon.endpoint) as client:
        client.ask("HealthCheck", HealthCheck(), timeout_seconds=20)
        client.ask("HealthCheck", HealthCheck(), timeout_seconds=20)
    first, second = daemon.asked
    assert first.command_id != second.command_id


def test_not_found_and_refused_are_told_apart_and_bring_their_hint() -> None:
    def refusing(code: str) -> OwnDaemon:
        return OwnDaemon(lambda _c: ErrorData(code=code, message="no task 7", hint="try 8"))

    with refusing("not_found") as daemon, pytest.raises(NotFoundError, match="no task 7") as found:
        ask(daemon.endpoint)
    assert found.value.__notes__ == ["try 8"]
    with refusing("invalid") as daemon, pytest.raises(RefusedError, match="no task 7"):
        ask(daemon.endpoint)


def test_nobody_there_is_said_with_the_way_to_start_a_daemon() -> None:
    with pytest.raises(UnreachableError, match="tasker-zmq daemon"):
        ask(NOWHERE)


def test_silence_is_told_apart_from_nobody_there() -> None:
    said = "took the command, but did not answer"
    with OwnDaemon(lambda _c: None) as daemon, pytest.raises(UnreachableError, match=said):
        ask(daemon.endpoint, timeout_seconds=0.05)


def test_bytes_that_are_no_reply_are_refused() -> None:
    with OwnDaemon(lambda _command: b"{nonsense") as daemon, pytest.raises(ProtocolError):
        ask(daemon.endpoint)


def test_an_endpoint_that_is_none_is_said() -> None:
    with pytest.raises(UnreachableError, match="'nonsense' is no address"):
        CommandClient("nonsense")


def test_a_late_reply_to_an_earlier_command_is_passed_over() -> None:
    answered: list[bytes] = []

    def late(command: Command) -> object:
        if not answered:
            answered.append(b"once")
            return {"to": "the first, too late", "id": command.command_id}
        return {"to": "the second"}

    with OwnDaemon(late) as daemon, CommandClient(daemon.endpoint) as client:
        with pytest.raises(UnreachableError):
            client.ask("HealthCheck", HealthCheck(), timeout_seconds=0)
        reply = client.ask("HealthCheck", HealthCheck(), timeout_seconds=20)
    assert bytes(reply) == b'{"to":"the second"}'


def test_health_is_asked_of_a_rep_socket() -> None:
    with OwnDaemon(lambda _c: {"status": "ok", "inbox": 3}, kind=zmq.REP) as daemon:
        assert ask_health(daemon.endpoint, timeout_seconds=20) == {"status": "ok", "inbox": 3}
    stranger = OwnDaemon(lambda _c: b"hello", kind=zmq.REP)
    with stranger as daemon, pytest.raises(UnreachableError, match="no daemon of ours"):
        ask_health(daemon.endpoint, timeout_seconds=20)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("draining", 0), ("stalled", 1)])
def test_the_exit_code_of_health_is_the_daemons_word(
    monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    with OwnDaemon(lambda _c: {"status": status}, kind=zmq.REP) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_HEALTH", daemon.endpoint)
        result = tasker("health", "-o", "json")
    assert (result.exit_code, f'"{status}"' in result.stdout) == (code, True)


def test_health_of_nobody_ends_with_the_code_for_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKER_ENDPOINTS_HEALTH", NOWHERE)
    result = tasker("health")
    assert result.exit_code == 4
    assert "TASKER_ENDPOINTS_HEALTH" in result.stderr


def test_a_higher_level_of_health_is_a_command_and_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"status": "degraded", "reason": "the disk is full", "cores": [], "tasks_open": {"a": 2}}
    with OwnDaemon(lambda _c: told) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        result = tasker("health", "--level", "full", "--timeout", "20s")
    (command,) = daemon.asked
    assert msgspec.json.decode(command.payload.data)["diagnostic_level"] == "full"
    assert "2 a" in result.stdout
    assert (result.exit_code, "degraded: the disk is full" in result.stderr) == (1, True)
