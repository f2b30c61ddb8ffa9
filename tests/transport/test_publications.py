"""Steps go to whom they were granted, and to nobody else, whatever others send."""

import pytest
import zmq

from tasker_zmq.transport.sockets import SocketLimits
from tests.transport.conftest import Serve
from tests.transport.serving import eventually, got, receive, received

ONE, TEN = b"steps.w1 ", b"steps.w10 "
NARROW = SocketLimits(
    result_bytes_max=1_000, command_bytes_max=1_000, step_queue_hwm=1, result_queue_hwm=100
)


def test_a_granted_topic_is_served_as_one_frame(serve: Serve, transport: str) -> None:
    serving = serve(transport, granted=(ONE,))
    peer = serving.subscribed(ONE)
    serving.publish(ONE, b'{"batch_id":"b"}')
    assert receive(peer) == [b'steps.w1 {"batch_id":"b"}']


@pytest.mark.parametrize(
    "wish", [b"", b"s", b"steps", b"steps.", b"steps.w1", b"steps.w10 ", b"steps.w2 "]
)
def test_a_topic_that_is_not_ones_own_brings_nothing(serve: Serve, wish: bytes) -> None:
    serving = serve(granted=(ONE,))
    nosy, own = serving.subscribed(wish), serving.subscribed(ONE)
    for number in range(10):
        serving.publish(ONE, b"%d" % number)
    assert [receive(own) for _ in range(10)] == [[b"steps.w1 %d" % each] for each in range(10)]
    serving.quiet_turns()
    assert received(nosy) == []


def test_each_peer_gets_its_own_topic_only(serve: Serve, transport: str) -> None:
    serving = serve(transport, granted=(ONE, TEN))
    one, ten = serving.subscribed(ONE), serving.subscribed(TEN)
    serving.publish(TEN, b"for ten")
    serving.publish(ONE, b"for one")
    assert receive(one) == [b"steps.w1 for one"]
    assert receive(ten) == [b"steps.w10 for ten"]
    assert received(one) + received(ten) == []


def test_who_unsubscribes_gets_no_more(serve: Serve) -> None:
    serving = serve(granted=(ONE, TEN))
    peer = serving.subscribed(ONE, TEN)
    peer.send(b"\x00" + ONE)
    assert got(serving.notebook.subscriptions) == (ONE, False)
    serving.publish(ONE, b"too late")
    serving.publish(TEN, b"still here")
    assert receive(peer) == [b"steps.w10 still here"]


def test_another_ones_unsubscription_takes_nothing_away(serve: Serve) -> None:
    serving = serve(granted=(ONE,))
    peer, other = serving.subscribed(ONE), serving.subscribed(b"steps.w2 ")
    other.send(b"\x00" + ONE)
    serving.quiet_turns()
    serving.publish(ONE, b"mine")
    assert receive(peer) == [b"steps.w1 mine"]


def test_a_peer_that_leaves_is_told_of_and_what_it_missed_is_gone(serve: Serve) -> None:
    serving = serve(granted=(ONE, TEN))
    witness = serving.subscribed(TEN)
    serving.subscribed(ONE).close()
    assert got(serving.notebook.subscriptions) == (ONE, False)
    serving.publish(ONE, b"to nobody")
    serving.publish(TEN, b"the other has left")  # in order: what went before it is gone by now
    assert receive(witness) == [TEN + b"the other has left"]
    again = serving.subscribed(ONE)
    serving.publish(ONE, b"to somebody")
    assert receive(again) == [b"steps.w1 to somebody"]


def test_the_late_end_of_an_old_connection_takes_nothing_from_the_new_one(
    serve: Serve, transport: str
) -> None:
    """A worker connects anew before the daemon notices that its old connection is dead."""
    serving = serve(transport, granted=(ONE,))
    old, new = serving.subscribed(ONE), serving.subscribed(ONE)
    old.close()
    assert got(serving.notebook.subscriptions) == (ONE, False)
    serving.publish(ONE, b"to the new one")
    assert receive(new) == [b"steps.w1 to the new one"]
    new.close()
    assert got(serving.notebook.subscriptions) == (ONE, False)


def test_a_full_peer_delays_its_publications_and_loses_none(serve: Serve) -> None:
    serving = serve("inproc", limits=NARROW, granted=(ONE, TEN))
    slow = serving.peer(zmq.XSUB, serving.sockets.steps_endpoint, RCVHWM=1)
    slow.send(b"\x01" + ONE)
    assert got(serving.notebook.subscriptions) == (ONE, True)
    for number in range(50):
        serving.publish(ONE, b"%d" % number)
    eventually(lambda: serving.notebook.postponed > 0, "the peer is full")
    quick = serving.subscribed(TEN)
    serving.publish(TEN, b"at once")
    assert receive(quick) == [b"steps.w10 at once"]
    assert {receive(slow)[0] for _ in range(50)} == {b"steps.w1 %d" % each for each in range(50)}
    serving.quiet_turns()
    assert received(slow) == []


@pytest.mark.parametrize("junk", [[b"\x02junk"], [b""], [b"hello", b"\x01steps.w1 "], [b"x" * 900]])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])  # inproc peers are the daemon's own
def test_junk_upstream_gives_nobody_another_ones_topic(
    serve: Serve, transport: str, junk: list[bytes]
) -> None:
    """Junk, and the wishes of two others, wait together when the loop first looks."""
    serving = serve(transport, granted=(ONE, TEN), at_once=False)
    noisy = serving.subscriber()
    one, ten = serving.subscriber(ONE), serving.subscriber(TEN)
    for _ in range(3):
        noisy.send_multipart(junk)
    serving.start()
    got_one: list[bytes] = []
    got_ten: list[bytes] = []

    def both_have_theirs() -> bool:
        serving.publish(ONE, b"for one")
        serving.publish(TEN, b"for ten")
        got_one.extend(received(one))
        got_ten.extend(received(ten))
        return bool(got_one and got_ten)

    eventually(both_have_theirs, "both peers are served")
    assert set(got_one) == {b"steps.w1 for one"}
    assert set(got_ten) == {b"steps.w10 for ten"}
    assert received(noisy) == [] or junk[-1][:1] == b"\x01"


def test_who_sends_junk_is_cut_off_and_the_others_are_not(serve: Serve) -> None:
    serving = serve(granted=(ONE,))
    peer = serving.subscribed(ONE)
    noisy = serving.subscriber()

    def is_cut_off() -> bool:
        noisy.send(b"\x07" * 100)
        return serving.notebook.cuts > 0

    eventually(is_cut_off, "its connection is ended")
    serving.publish(ONE, b"undisturbed")
    assert receive(peer) == [b"steps.w1 undisturbed"]
    assert serving.notebook.subscriptions.empty()


def test_a_wish_that_is_too_long_ends_the_connection_and_not_the_loop(serve: Serve) -> None:
    serving = serve("tcp", granted=(ONE,))
    noisy = serving.subscriber()
    noisy.send(b"\x01" + b"x" * 5_000)
    peer = serving.subscribed(ONE)
    serving.publish(ONE, b"well")
    assert receive(peer) == [b"steps.w1 well"]
