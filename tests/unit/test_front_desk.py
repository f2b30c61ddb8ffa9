"""The io thread's receiver, without sockets: what it says when the engine's inbox is full."""

import logging

import pytest
from sqlalchemy import create_engine

from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers, View
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.telemetry.events import Event
from tasker_zmq.testing import ManualClock


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
    lanes = Lanes(mailbox=mailbox, readers=readers, snapshot=dict)
    return FrontDesk(
        lanes,
        limits=WireLimits(),
        core_id="core-1",
        clock=clock,
        send=drop,
        legacy_workers=False,
    )


def test_a_full_inbox_is_logged_once_each_time_it_becomes_full(
    front: FrontDesk, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert front.room()
        front.result([b"partial_result ", b"{}"])
        front.result([b"partial_result ", b"{}"])
        assert not front.room()
        assert not front.room()
        assert [record.msg for record in caplog.records] == [Event.INBOX_FULL.value]
        mailbox.take(10, 10, 0)
        assert front.room()
        front.result([b"partial_result ", b"{}"])
        front.result([b"partial_result ", b"{}"])
        assert not front.room()
    assert [record.__dict__["fields"] for record in caplog.records] == [{"inbox": 2}] * 2
