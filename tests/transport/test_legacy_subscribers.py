"""Who may have `steps`: one at a time, and when another leaves that takes nothing from it."""

from queue import SimpleQueue

import pytest
import zmq
from sqlalchemy import create_engine

from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers, View
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.testing import ManualClock
from tasker_zmq.transport.connections import Connection
from tests.transport.conftest import Serve
from tests.transport.serving import Serving, got, receive, received

STEPS = topics.LEGACY_STEPS_TOPIC
SUBSCRIBE, UNSUBSCRIBE = b"\x01" + STEPS, b"\x00" + STEPS
Socket = zmq.Socket

pytestmark = pytest.mark.parametrize("transport", ["tcp", "ipc"])


def drop(_letter: Letter) -> None:
    """Nobody is there to take letters."""


class NotedDesk(FrontDesk):
    """A front desk; what it says to each wish and each end is put into `rulings`."""

    def __init__(self) -> None:
        clock = ManualClock()
        nowhere = create_engine("postgresql+psycopg://nobody@localhost/nothing")
        view = View(clock=clock, snapshot=dict)
        self.mailbox = Mailbox(messages_max=100, bytes_max=1_000)
        self.rulings: SimpleQueue[tuple[bool, bool]] = SimpleQueue()
        super().__init__(
            Lanes(
                mailbox=self.mailbox,
                readers=Readers(nowhere, view, threads=1, core_id="core-1", send=drop),
                snapshot=dict,
            ),
            limits=WireLimits(),
            core_id="core-1",
            clock=clock,
            send=drop,
            legacy_workers=True,
        )

    def subscription(
        self, topic: bytes, *, subscribed: bool, connection: Connection | None
    ) -> bool:
        ruling = super().subscription(topic, subscribed=subscribed, connection=connection)
        self.rulings.put((subscribed, ruling))
        return ruling

    @property
    def seen(self) -> list[bool]:
        """What the engine was told of the legacy topic, in order."""
        return [each.subscribed for each in self.mailbox.take(100, 0, 0.0)]  # type: ignore[union-attr]


class Steps:
    """Subscribers of `steps`, and what the desk says to them."""

    def __init__(self, serve: Serve, transport: str) -> None:
        self.desk = NotedDesk()
        self.serving: Serving = serve(transport, receiver=self.desk)

    def subscriber(self, *, granted: bool) -> "Socket[bytes]":
        socket = self.serving.subscriber(STEPS)
        assert got(self.desk.rulings) == (True, granted)
        return socket

    def end(self, socket: "Socket[bytes]", *, politely: bool, granted: bool) -> None:
        if politely:
            socket.send(UNSUBSCRIBE)
        else:
            socket.close()
        assert got(self.desk.rulings) == (False, granted)


@pytest.fixture
def steps(serve: Serve, transport: str) -> Steps:
    return Steps(serve, transport)


@pytest.mark.parametrize("politely", [True, False], ids=["unsubscribes", "leaves"])
def test_one_that_was_refused_takes_nothing_with_it(steps: Steps, politely: bool) -> None:  # noqa: FBT001
    first = steps.subscriber(granted=True)
    second = steps.subscriber(granted=False)
    steps.end(second, politely=politely, granted=False)
    assert steps.desk.seen == [True]
    steps.serving.publish(STEPS, b"work")
    assert receive(first) == [STEPS + b"work"]
    if politely:
        assert received(second) == []


@pytest.mark.parametrize("politely", [True, False], ids=["unsubscribes", "leaves"])
def test_the_place_of_one_that_was_served_is_free_for_the_next(
    steps: Steps,
    politely: bool,  # noqa: FBT001
) -> None:
    first = steps.subscriber(granted=True)
    steps.subscriber(granted=False)
    steps.end(first, politely=politely, granted=True)
    third = steps.subscriber(granted=True)
    assert steps.desk.seen == [True, False, True]
    steps.serving.publish(STEPS, b"work")
    assert receive(third) == [STEPS + b"work"]
