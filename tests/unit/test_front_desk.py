"""The io thread's receiver, without sockets: what it says when the engine's inbox is full."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine

from tasker_zmq.commands.ending import Management
from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers, View
from tasker_zmq.pipeline.inbox import Letter, ReceivedResult
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.codec import Undecodable
from tasker_zmq.protocol.commands import ERROR, Command, Payload
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.settings import (
    CommandSettings,
    EndpointSettings,
    ManagementMode,
    Settings,
    may_be_managed,
)
from tasker_zmq.telemetry.events import Event
from tasker_zmq.testing import ManualClock


class Managed:
    """A daemon of which is noted what it is told to do."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def management(self, *, allowed: bool) -> Management:
        return Management(
            allowed=allowed,
            core_id="core-1",
            health=lambda: {"status": "draining" if self.told else "ok"},
            drain=lambda: self.told.append("drain"),
            stop=lambda: self.told.append("stop"),
        )


def drop(_letter: Letter) -> None:
    """Nobody is there to take letters."""


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox(messages_max=2, bytes_max=1_000)


@pytest.fixture
def front(mailbox: Mailbox) -> FrontDesk:
    """A desk whose readers never start, for nothing is asked of them."""
    nowhere = create_engine("postgresql+psycopg://nobody@localhost/nothing")
    clock = ManualClock()
    view = View(clock=clock, snapshot=dict)
    readers = Readers(nowhere, view, threads=1, core_id="core-1", send=drop)
    return seated(Lanes(mailbox=mailbox, readers=readers, snapshot=dict), drop)


def seated(lanes: Lanes, send: Callable[[Letter], None]) -> FrontDesk:
    return FrontDesk(
        lanes,
        limits=WireLimits(),
        core_id="core-1",
        clock=ManualClock(),
        send=send,
        legacy_workers=False,
    )


def managed(front: FrontDesk, management: Management, action: str) -> Any:
    """What the desk answers who manages it so; the code when it refuses."""
    letters: list[Letter] = []
    front._management, front._send = management, letters.append
    asked = Command(
        command_type="SystemManagement",
        command_id="c",
        payload=Payload(type="SystemManagement", data=codec.raw({"action": action})),
    )
    front.command([b"client", codec.encode(asked)])
    reply = codec.decode_command(letters[0].body, WireLimits())
    found = msgspec.json.decode(reply.payload.data)
    return found["code"] if reply.payload.type == ERROR else found["health"]["status"]


def test_a_daemon_is_managed_by_commands_only_if_its_settings_allow_it(front: FrontDesk) -> None:
    daemon = Managed()
    for action in ("status", "health_check", "drain", "shutdown", "startup"):
        assert managed(front, daemon.management(allowed=False), action) == "not_allowed"
    assert daemon.told == []
    allowed = daemon.management(allowed=True)
    assert managed(front, allowed, "status") == managed(front, allowed, "health_check") == "ok"
    assert managed(front, allowed, "startup") == managed(front, allowed, "sleep") == "invalid"
    assert managed(front, allowed, "drain") == "draining"
    assert managed(front, allowed, "shutdown") == "draining"
    assert daemon.told == ["drain", "stop"]


@pytest.mark.parametrize(
    ("mode", "commands", "may"),
    [
        (ManagementMode.LOCAL, "tcp://127.0.0.1:5557", True),
        (ManagementMode.LOCAL, "ipc:///run/commands", True),
        (ManagementMode.LOCAL, "tcp://0.0.0.0:5557", False),
        (ManagementMode.ON, "tcp://0.0.0.0:5557", True),
        (ManagementMode.OFF, "ipc:///run/commands", False),
    ],
)
def test_local_means_that_only_this_machine_reaches_the_commands(
    mode: ManagementMode, commands: str, *, may: bool
) -> None:
    settings = Settings(
        commands=CommandSettings(management=mode), endpoints=EndpointSettings(commands=commands)
    )
    assert may_be_managed(settings) is may


def test_a_full_inbox_is_logged_once_each_time_it_becomes_full(
    front: FrontDesk, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert front.room()
        front.results([[b"partial_result ", b"{}"]])
        front.results([[b"partial_result ", b"{}"]])
        assert not front.room()
        assert not front.room()
        assert [record.msg for record in caplog.records] == [Event.INBOX_FULL.value]
        mailbox.take(10, 10, 0)
        assert front.room()
        front.results([[b"partial_result ", b"{}"]])
        front.results([[b"partial_result ", b"{}"]])
        assert not front.room()
    assert [record.__dict__["fields"] for record in caplog.records] == [{"inbox": 2}] * 2


def test_a_result_is_read_before_the_engine_gets_it(front: FrontDesk, mailbox: Mailbox) -> None:
    front.results([[b"partial_result", b'{"batch_id":7}']])
    (received,) = mailbox.take(10, 10, 0)
    assert isinstance(received, ReceivedResult)
    assert isinstance(received.decoded, Undecodable)
    assert received.frames == (b"partial_result", b'{"batch_id":7}')
